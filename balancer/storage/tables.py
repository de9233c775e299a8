"""Parquet tables with the same bytes every time, and digests that are checked on reading.

pyarrow accepts a flipped byte in a page without a word, so every artefact has a sha256 in its
record, and pages have checksums for readers that have no record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from balancer.errors import DataError
from balancer.storage.filesystem import Store

_ROW_GROUP = 64 * 2**10


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a completion record says of an artefact."""

    uri: str
    num_rows: int
    num_bytes: int
    sha256: str


def write_table(
    store: Store, uri: str, table: pa.Table, metadata: Mapping[str, str] | None = None
) -> FileRecord:
    """Write a table as one Parquet file, whole or not at all.

    The same table, metadata and pyarrow version give the same bytes, however the table is chunked.

    Args:
        store: where to write.
        uri: the file.
        table: any table.
        metadata: text by key for the file's footer; replaces what the table's schema has.

    Raises:
        StorageError: the store refuses or fails.

    Cost: one request; the compressed file once in memory.
    """
    schema_metadata = dict(sorted(metadata.items())) if metadata else None
    buffer = BytesIO()
    pq.write_table(
        table.combine_chunks().replace_schema_metadata(schema_metadata),
        buffer,
        compression="zstd",
        row_group_size=_ROW_GROUP,
        write_page_checksum=True,
    )
    data = buffer.getvalue()
    store.write_bytes(uri, data)
    return FileRecord(uri, table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def read_table(
    store: Store, uri: str, *, sha256: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a Parquet file, with its footer metadata in `schema.metadata`.

    Args:
        store: where to read.
        uri: the file.
        sha256: digest that the file must have, from its record.
        columns: names to read; all when absent.

    Raises:
        DataError: no such file or column, or other bytes than the record says.
        StorageError: the store refuses or fails.
    """
    data = read_artefact(store, uri, sha256=sha256)
    try:
        file = pq.ParquetFile(BytesIO(data), page_checksum_verification=True)
        check_columns(file.schema_arrow.names, columns or (), uri)
        return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{uri} must be a complete Parquet file; got {error}. Write it again."
        ) from error


def read_artefact(store: Store, uri: str, *, sha256: str | None = None) -> bytes:
    """Read a file; where its digest is known and differs, read once more, then give up.

    Raises:
        DataError: no such file, or other bytes than its record says.
        StorageError: the store refuses or fails.
    """
    try:
        data = store.read_bytes(uri)
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            data = store.read_bytes(uri)
    except FileNotFoundError as error:
        raise DataError(
            f"{uri} must exist; there is no such file. Check the path, or delete the completion "
            f"record that names it to have it made again."
        ) from error
    if sha256 is not None and (got := hashlib.sha256(data).hexdigest()) != sha256:
        raise DataError(
            f"{uri} must have the sha256 {sha256} of its record; got {got} ({len(data)} bytes). It "
            f"was changed or damaged: delete its completion record to have it made again."
        )
    return data


def check_columns(present: Sequence[str], wanted: Sequence[str], uri: str) -> None:
    """Refuse a file without a column that is needed.

    Raises:
        DataError: naming the column and those there are.
    """
    for name in wanted:
        if name not in present:
            raise DataError(
                f"{uri} must have the column {name!r}; it has {', '.join(present)}. Name the "
                f"column that holds it."
            )
