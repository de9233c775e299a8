"""A user's `.npy` matrix, mapped from the disk instead of read."""

from __future__ import annotations

import numpy as np

from balancer.storage.filesystem import Store
from balancer.types import FloatArray


def map_vectors(store: Store, uri: str) -> FloatArray | None:
    """Map a `.npy` matrix, if it can be used as it lies there.

    Returns:
        (N, D) float32, C-contiguous; None for anything else (remote, Parquet, another
        type or order, damaged), which `balancer.storage.embedding_shards.read_vectors` reads or
        refuses.

    Raises:
        ConfigError: the URI cannot be used.

    Cost: the file's header. Pages are read when they are looked at, and the system may drop them.
    """
    if store.is_remote(uri) or not uri.lower().endswith(".npy"):
        return None
    try:
        # Copy on write, because compiled code is compiled apart for arrays that are read-only.
        vectors = np.load(store.absolute(uri), mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = (
        isinstance(vectors, np.memmap)
        and vectors.ndim == 2
        and vectors.dtype == np.float32
        and vectors.flags.c_contiguous
        and vectors.size > 0
    )
    return vectors if usable else None
