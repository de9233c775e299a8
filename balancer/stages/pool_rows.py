"""One worker's embedding shards in memory, as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.distances import l2_normalize
from balancer.stages.metadata_columns import Metadata, read_columns
from balancer.storage.embedding_shards import read_embeddings
from balancer.storage.filesystem import Store
from balancer.types import EmbeddingShard, FloatArray, IdArray


class PoolRows:
    """Shards of embeddings, read once and kept.

    Args:
        store: opens the shards.
        shards: what to hold.
        normalize: L2-normalise the rows.
        metadata: columns that come with the rows.
        exclude: ids of rows that are dropped as their shard is read.

    Memory: the embeddings of the shards.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[EmbeddingShard],
        *,
        normalize: bool,
        metadata: Metadata | None = None,
        exclude: IdArray | None = None,
    ) -> None:
        columns = () if metadata is None else metadata.columns
        catalog = {} if metadata is None else {s.shard_id: s for s in metadata.catalog}
        self._shards: list[EmbeddingShard] = []
        self._places: list[int] = []
        filled = [shard for shard in shards if shard.num_rows]
        dim = max((shard.dim for shard in filled), default=0)
        # One matrix for all shards, so that a selection sees one array; each shard is a view.
        self._points = np.empty((sum(shard.num_rows for shard in filled), dim), np.float32)
        self._rows: list[tuple[IdArray, FloatArray]] = []
        self._columns: list[dict[str, NDArray[Any]]] = []
        end = 0
        for place, shard in enumerate(filled):
            ids, points = read_embeddings(store, shard)
            if exclude is not None and len(exclude):
                kept = ~np.isin(ids, exclude)
                ids, points = ids[kept], points[kept]
            if len(ids) == 0:
                continue
            self._shards.append(shard)
            self._places.append(place)
            view = self._points[end : end + len(ids)]
            view[:] = l2_normalize(points) if normalize else points
            self._rows.append((ids, view))
            self._columns.append(
                read_columns(store, catalog[shard.shard_id], ids, columns) if columns else {}
            )
            end += len(ids)
        self._points = self._points[:end]
        self._ids = (
            np.concatenate([ids for ids, _ in self._rows]) if self._rows else np.empty(0, np.str_)
        )
