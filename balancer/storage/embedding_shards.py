"""Embeddings of a shard as Parquet that any reader understands, and users' own vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_artefact, read_table, write_table
from balancer.types import EmbeddingShard, FloatArray, IdArray

METADATA_KEY = "balancer"
"""Key of an embedding shard's Parquet footer that holds what is known of it, as JSON."""


def write_embeddings(
    store: Store,
    uri: str,
    *,
    shard_id: str,
    tile_ids: IdArray | Sequence[str],
    embeddings: FloatArray,
    encoder_fingerprint: str,
) -> EmbeddingShard:
    """Write the embeddings of one shard: `tile_id string, embedding fixed_size_list<float32, D>`.

    Args:
        store: where to write.
        uri: the file.
        shard_id: the cataloged shard that the tiles come from.
        tile_ids: (N,) in the order of the shard's catalog.
        embeddings: (N, D) float32.
        encoder_fingerprint: of the encoder that made them.

    Raises:
        ValueError: shapes or types that do not fit.
        StorageError: the store refuses or fails.
    """
    if embeddings.ndim != 2 or embeddings.dtype != np.float32 or embeddings.shape[1] == 0:
        raise ValueError(
            f"embeddings must be (N, D) float32 with D >= 1; got {embeddings.shape} "
            f"{embeddings.dtype}."
        )
    rows, dim = embeddings.shape
    if len(tile_ids) != rows:
        raise ValueError(f"tile_ids must have one id per row ({rows}); got {len(tile_ids)}.")
    flat = pa.array(np.ascontiguousarray(embeddings).reshape(-1), pa.float32())
    table = pa.table(
        {
            "tile_id": pa.array(np.asarray(tile_ids, np.str_).tolist(), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, dim),
        }
    )
    notes = {"shard_id": shard_id, "encoder_fingerprint": encoder_fingerprint, "dim": dim}
    footer = {METADATA_KEY: json.dumps(notes, sort_keys=True)}
    record = write_table(store, uri, table, footer)
    return EmbeddingShard(shard_id, uri, rows, dim, encoder_fingerprint, record.sha256)


def read_embeddings(store: Store, shard: EmbeddingShard) -> tuple[IdArray, FloatArray]:
    """Read a shard's embeddings and check them against their reference.

    Returns:
        (N,) ids and (N, D) float32, C-contiguous.

    Raises:
        DataError: missing, damaged, or not what the reference says.
        StorageError: the store refuses or fails.
    """
    table = read_table(store, shard.uri, sha256=shard.sha256, columns=["tile_id", "embedding"])
    ids, vectors = _to_arrays(table, "tile_id", "embedding", shard.uri)
    if vectors.shape != (shard.num_rows, shard.dim):
        raise DataError(
            f"{shard.uri} must hold {shard.num_rows} embeddings of {shard.dim} dimensions; got "
            f"{vectors.shape[0]} of {vectors.shape[1]}. Delete its completion record to have it "
            f"made again."
        )
    return ids, vectors


def read_vectors(
    store: Store, uri: str, id_column: str = "tile_id", vector_column: str = "embedding"
) -> tuple[IdArray, FloatArray]:
    """Read a user's embeddings: a `.npy` matrix, or a Parquet file or folder.

    The ids of a `.npy` are the row numbers as decimal text. float16 and float64 become float32;
    whether the numbers are finite is the caller's to check.

    Args:
        store: where to read.
        uri: the file or folder.
        id_column: text or whole numbers.
        vector_column: lists of equal length.

    Returns:
        (N,) ids and (N, D) float32, C-contiguous; Parquet files in the order of their names.

    Raises:
        DataError: nothing to read, a missing column, ragged or null vectors, a wrong type,
            duplicate ids.
        StorageError: the store refuses or fails.
    """
    if uri.lower().endswith(".npy"):
        vectors = _read_npy(store, uri)
        return np.arange(len(vectors)).astype(np.str_), vectors
    files = [f for f in store.list_files(uri) if f.uri.lower().endswith((".parquet", ".pq"))]
    if not files:
        raise DataError(
            f"{uri} must be a .npy file, or a Parquet file or folder; found none of these. Check "
            f"the path."
        )
    parts = []
    for file in files:
        table = read_table(store, file.uri, columns=[id_column, vector_column])
        parts.append((file.uri, *_to_arrays(table, id_column, vector_column, file.uri)))
    # A file without rows has no say in the dimension.
    parts = [part for part in parts if len(part[1])] or parts[:1]
    first_uri, _, first = parts[0]
    for other_uri, _, vectors in parts:
        if vectors.shape[1] != first.shape[1]:
            raise DataError(
                f"Vectors must have one length; got {first.shape[1]} in {first_uri} and "
                f"{vectors.shape[1]} in {other_uri}. Give the embeddings of one encoder."
            )
    ids = np.concatenate([part[1] for part in parts])
    _check_unique(ids, uri)
    return ids, np.concatenate([part[2] for part in parts])


def _read_npy(store: Store, uri: str) -> FloatArray:
    data = read_artefact(store, uri)
    try:
        vectors = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{uri} must be a .npy file of numbers; got {error}. Write it with numpy.save."
        ) from error
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.kind != "f":
        raise DataError(
            f"{uri} must hold a matrix of floating-point numbers, one row per tile; got shape "
            f"{vectors.shape} of {vectors.dtype}. Save it as (N, D) float32."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _to_arrays(
    table: pa.Table, id_column: str, vector_column: str, uri: str
) -> tuple[IdArray, FloatArray]:
    ids = _to_ids(table[id_column], id_column, uri)
    column = table[vector_column]
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind)
    if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataError(
            f"Column {vector_column!r} of {uri} must hold lists of numbers; got {kind}. Name the "
            f"column with the vectors."
        )
    if not pa.types.is_floating(kind.value_type):
        raise DataError(
            f"Column {vector_column!r} of {uri} must hold lists of floating-point numbers; got "
            f"{kind}. Write them as float32."
        )
    if column.null_count:
        row = int(pc.index(column.is_null(), True).as_py())
        raise DataError(
            f"Column {vector_column!r} of {uri} must have a vector in every row; tile "
            f"{str(ids[row])!r} (row {row}) has null. Leave such rows out."
        )
    lengths = (
        np.full(len(ids), kind.list_size)
        if fixed
        else pc.list_value_length(column).to_numpy().astype(np.int64)
    )
    dim = int(lengths[0]) if len(lengths) else int(kind.list_size) if fixed else 0
    ragged = np.flatnonzero(lengths != dim)
    if len(ragged) or (dim == 0 and len(ids)):
        row = int(ragged[0]) if len(ragged) else 0
        raise DataError(
            f"Column {vector_column!r} of {uri} must hold vectors of one length; row 0 has {dim} "
            f"numbers, row {row} (tile {str(ids[row])!r}) has {lengths[row]}. Correct that row."
        )
    flat = pc.list_flatten(column)
    if flat.null_count:
        row = int(pc.index(flat.is_null(), True).as_py()) // dim
        raise DataError(
            f"Column {vector_column!r} of {uri} must hold numbers only; the vector of tile "
            f"{str(ids[row])!r} (row {row}) has a null in it. Leave such rows out."
        )
    values = flat.cast(pa.float32(), safe=False).to_numpy()
    return ids, np.ascontiguousarray(values, dtype=np.float32).reshape(len(ids), dim)


def _to_ids(column: pa.ChunkedArray, name: str, uri: str) -> IdArray:
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_dictionary(kind)):
        raise DataError(
            f"Column {name!r} of {uri} must hold ids as text or whole numbers; got {kind}. Name "
            f"another column."
        )
    if column.null_count:
        row = int(pc.index(column.is_null(), True).as_py())
        raise DataError(
            f"Column {name!r} of {uri} must have an id in every row; row {row} is null."
        )
    return np.array(column.cast(pa.string()).to_pylist(), dtype=np.str_)


def _check_unique(ids: IdArray, uri: str) -> None:
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(repeated):
        first, second = (int(order[repeated[0] + step]) for step in (0, 1))
        raise DataError(
            f"Tile ids must be unique; {str(ids[first])!r} is in rows {first} and {second} of "
            f"{uri} ({len(repeated)} repeated in all). Remove the repetitions."
        )
