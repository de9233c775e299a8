"""Encoders on storage: weights as safetensors, description as JSON. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import FileRecord, read_artefact

State = dict[str, NDArray[Any]]


def save_encoder(
    store: Store,
    uri_prefix: str,
    state: Mapping[str, NDArray[Any]],
    description: Mapping[str, object],
) -> FileRecord:
    """Write `<prefix>.safetensors`, then `<prefix>.json` naming its digest.

    Args:
        store: where to write.
        uri_prefix: without a suffix.
        state: arrays by name.
        description: what is needed to build the network again; JSON-serialisable.

    Returns:
        Record of the weights file; `num_rows` is the number of arrays.

    Raises:
        StorageError: the store refuses or fails.
    """
    # np.asarray keeps arrays without dimensions, which ascontiguousarray would turn into vectors.
    arrays = {name: np.asarray(state[name], order="C") for name in sorted(state)}
    data = safetensors.save(arrays)
    digest = hashlib.sha256(data).hexdigest()
    uri = f"{uri_prefix}.safetensors"
    store.write_bytes(uri, data)
    text = json.dumps(
        {"description": dict(description), "weights_sha256": digest}, sort_keys=True, indent=1
    )
    store.write_bytes(f"{uri_prefix}.json", text.encode())
    return FileRecord(uri, len(arrays), len(data), digest)


def load_encoder(
    store: Store, uri_prefix: str, *, sha256: str | None = None
) -> tuple[State, dict[str, Any]]:
    """Read what `save_encoder` wrote.

    Args:
        store: where to read.
        uri_prefix: as given to `save_encoder`.
        sha256: of the weights, from their record; that in the JSON file when absent.

    Returns:
        Arrays by name, and the description.

    Raises:
        DataError: missing or damaged.
        StorageError: the store refuses or fails.
    """
    text = read_artefact(store, f"{uri_prefix}.json")
    try:
        facts = json.loads(text)
        description, digest = dict(facts["description"]), str(facts["weights_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{uri_prefix}.json must describe an encoder; got {error!r}. Train it again."
        ) from error
    state = _parse(
        read_artefact(store, f"{uri_prefix}.safetensors", sha256=sha256 or digest), uri_prefix
    )
    return state, description


def load_weights(store: Store, uri: str) -> State:
    """Read a user's `.safetensors` file. Other files: `Store.read_bytes`, then the model layer.

    Raises:
        DataError: missing, or not safetensors.
        StorageError: the store refuses or fails.
    """
    return _parse(read_artefact(store, uri), uri)


def _parse(data: bytes, uri: str) -> State:
    try:
        state: State = safetensors.load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise DataError(
            f"{uri} must be a complete safetensors file of types that numpy has; got {error}. Save "
            f"it again, as float32."
        ) from error
    return state
