"""Tiles in a Parquet file: an id column, an image column of bytes, other columns as metadata.

The image column is plain binary, or a struct with the fields `bytes` and `path` as Hugging Face
datasets write it. Nested and binary columns besides it are not metadata and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from balancer.config import ArchiveConfig
from balancer.errors import DataError
from balancer.storage.containers import Found, Rejected
from balancer.storage.failures import storage_errors
from balancer.storage.filesystem import Store
from balancer.storage.sources import SourceShard
from balancer.storage.tile_metadata import check_names
from balancer.types import Tile


def read_parquet(
    store: Store, source: SourceShard, archive: ArchiveConfig
) -> Iterator[Found | Rejected]:
    """Yield the tiles of a Parquet file, row group by row group.

    Raises:
        DataError: a missing or unsuitable column, naming the ones there are.
        StorageError: the store refuses or fails.
    """
    position = 0
    try:
        with storage_errors(source.uri), store.open(source.uri) as file:
            for tile in _rows(_open(file), source, archive):
                position = tile.position + 1
                yield tile
    except _DamagedError as error:
        reason = error.reason if source.num_bytes else "empty"
        yield Rejected(position, "", source.uri, "", source.num_bytes, reason, str(error))
    except FileNotFoundError as error:
        raise DataError(f"{source.uri} was listed but does not exist any more.") from error


def read_rows(
    store: Store, uri: str, column: str, rows: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield (row number, image bytes) for ascending row numbers, reading each row group once.

    Raises:
        DataError: the file is damaged, has fewer rows, or does not exist.
        StorageError: the store refuses or fails.
    """
    try:
        with storage_errors(uri), store.open(uri) as file:
            parquet = _open(file)
            first = 0
            for group in range(parquet.num_row_groups):
                end = first + parquet.metadata.row_group(group).num_rows
                inside = [row for row in rows if first <= row < end]
                if inside:
                    images = _images(_read_group(parquet, group, [column])[column], uri, column)
                    for row in inside:
                        yield row, images[row - first].as_py() or b""
                first = end
        missing = [row for row in rows if row >= first]
    except (_DamagedError, FileNotFoundError) as error:
        raise DataError(
            f"{uri} must hold the tiles that were cataloged; got {error}. Restore the file, or "
            f"start a run with another --out."
        ) from error
    if missing:
        raise DataError(
            f"{uri} must hold the tiles that were cataloged; it has {first} rows, not row "
            f"{missing[0]}. Restore the file, or start a run with another --out."
        )


class _DamagedError(Exception):
    """The file is not a complete Parquet file; `reason` as in the quarantine table."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _open(file: BinaryIO) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowInvalid, EOFError) as error:
        raise _DamagedError("truncated", f"not a complete Parquet file ({error})") from error


def _read_group(parquet: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
    try:
        return parquet.read_row_group(group, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        # pyarrow reports a damaged page as an OSError without number; a failing store has another.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        raise _DamagedError("corrupt", f"row group {group} cannot be read ({error})") from error


def _rows(
    parquet: pq.ParquetFile, source: SourceShard, archive: ArchiveConfig
) -> Iterator[Found | Rejected]:
    schema = parquet.schema_arrow
    for name, key in ((archive.id_column, "id_column"), (archive.image_column, "image_column")):
        if name not in schema.names:
            raise DataError(
                f"{source.uri} must have the column {name!r}; it has {', '.join(schema.names)}. "
                f"Set archive.{key} to one of these."
            )
    used = {archive.id_column, archive.image_column}
    scalars = [f.name for f in schema if f.name not in used and _is_scalar(f.type)]
    check_names(scalars, source.uri)
    position = 0
    for group in range(parquet.num_row_groups):
        table = _read_group(parquet, group, [archive.id_column, archive.image_column, *scalars])
        ids = _ids(table[archive.id_column], source.uri, archive.id_column, position)
        images = _images(table[archive.image_column], source.uri, archive.image_column)
        columns = {name: _values(table[name]) for name in scalars}
        for index, tile_id in enumerate(ids):
            data = images[index].as_py() or b""
            tile = Tile(tile_id, source.uri, archive.image_column, position, len(data), "parquet")
            yield Found(position, tile, data, {n: values[index] for n, values in columns.items()})
            position += 1


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    binary = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
    return not pa.types.is_nested(kind) and not binary


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetime ends at microseconds.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


def _ids(column: pa.ChunkedArray, uri: str, name: str, first_row: int) -> list[str]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind)):
        raise DataError(
            f"Column {name!r} of {uri} must hold ids as text or whole numbers; got {kind}. Set "
            f"archive.id_column to another."
        )
    if column.null_count:
        row = first_row + int(pc.index(column.is_null(), True).as_py())
        raise DataError(
            f"Column {name!r} of {uri} must have an id in every row; row {row} is null."
        )
    ids: list[str] = column.cast(kind).cast(pa.string()).to_pylist()
    return ids


def _images(column: pa.ChunkedArray, uri: str, name: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        if "bytes" not in names:
            raise DataError(
                f"Column {name!r} of {uri} must hold image bytes, or a struct with the field "
                f"'bytes'; its fields are {', '.join(names)}. Set archive.image_column."
            )
        column = pc.struct_field(column, "bytes")
        kind = column.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(
            f"Column {name!r} of {uri} must hold image bytes; got {kind}. Set archive.image_column."
        )
    return column
