"""Lists of tile ids that users keep in text, CSV or Parquet files, and a column of numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from balancer.config import SelectionConfig, digest_json
from balancer.errors import ConfigError, DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_artefact, read_table
from balancer.types import IdArray

COLUMN = "tile_id"


def read_tile_ids(store: Store, uri: str) -> IdArray:
    """Read a list of tile ids, in the order of the file.

    `.parquet` and `.pq` hold the column `tile_id` (text or whole numbers), so a manifest is a list;
    `.csv` has a header with that column; anything else is text with one id per line. Empty lines
    are skipped, and a file without a byte is a list without ids.

    Raises:
        DataError: no such file, no such column, an id missing, or not UTF-8.
        StorageError: the store refuses or fails.
    """
    name = uri.lower()
    if name.endswith((".parquet", ".pq")):
        column = read_table(store, uri, columns=[COLUMN])[COLUMN]
        if column.null_count or not (
            pa.types.is_string(column.type)
            or pa.types.is_large_string(column.type)
            or pa.types.is_integer(column.type)
            or pa.types.is_dictionary(column.type)
        ):
            raise DataError(
                f"Column {COLUMN!r} of {uri} must hold ids as text or whole numbers, without "
                f"nulls; got {column.type} with {column.null_count} nulls. Write it again."
            )
        return np.array(column.cast(pa.string()).to_pylist(), dtype=np.str_)
    try:
        text = read_artefact(store, uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{uri} must be UTF-8 text with tile ids; got {error}. Save it as UTF-8."
        ) from error
    if not name.endswith(".csv"):
        return np.array([line for line in text.splitlines() if line.strip()], dtype=np.str_)
    if not text.strip():
        return np.empty(0, np.str_)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if COLUMN not in (rows.fieldnames or ()):
        raise DataError(
            f"{uri} must have the column {COLUMN!r} in its first line; it has "
            f"{', '.join(rows.fieldnames or ['nothing'])}. Name the column so."
        )
    ids = [row[COLUMN] for row in rows]
    if not all(ids):
        raise DataError(
            f"{uri} must have an id in every row of the column {COLUMN!r}; row "
            f"{next(n for n, tile_id in enumerate(ids) if not tile_id)} has none. Remove it."
        )
    return np.array(ids, dtype=np.str_)


def read_numbers(
    store: Store, uri: str, column: str, *, key: str = "quality_column"
) -> NDArray[Any]:
    """Read a column of a user's Parquet embeddings, in the order of `read_vectors`.

    Args:
        store: opens them.
        uri: the embeddings.
        column: its name.
        key: of the configuration that names it, for messages.

    Returns:
        (N,) float64, NaN for null, where the column holds numbers; else objects.

    Raises:
        ConfigError: a `.npy` matrix, which has no columns.
        DataError: no such column.
        StorageError: the store refuses or fails.
    """
    if uri.lower().endswith(".npy"):
        raise ConfigError(
            f"{key} must name a column of Parquet embeddings; got {column!r} for {uri}, "
            f"which has none. Write the embeddings as Parquet."
        )
    files = [f for f in store.list_files(uri) if f.uri.lower().endswith((".parquet", ".pq"))]
    values: list[Any] = []
    for file in files:
        values += read_table(store, file.uri, columns=[column])[column].to_pylist()
    if all(value is None or type(value) in (int, float) for value in values):
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return np.array(values, dtype=object)


@dataclass(frozen=True, slots=True)
class TileLists:
    """What a configuration's lists hold.

    Attributes:
        include: (m,) ids that must be picked, in the order of their file.
        exclude: (E,) distinct ids that must not be picked, sorted.
    """

    include: IdArray
    exclude: IdArray

    def __len__(self) -> int:
        return len(self.include) + len(self.exclude)

    def fingerprint(self) -> str:
        """Return a digest of both lists, 16 hex characters."""
        return digest_json([self.include.tolist(), self.exclude.tolist()])


NO_LISTS = TileLists(np.empty(0, np.str_), np.empty(0, np.str_))


def read_tile_lists(store: Store, selection: SelectionConfig) -> TileLists:
    """Read the lists that a configuration names; a list that is not named is empty.

    Raises:
        ConfigError: an included id repeats, or is excluded too.
        DataError: a list that cannot be read.
        StorageError: the store refuses or fails.
    """
    include, exclude = (
        np.empty(0, np.str_) if uri is None else read_tile_ids(store, uri)
        for uri in (selection.include, selection.exclude)
    )
    names, counts = np.unique(include, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(
            f"selection.include must name each tile once; {str(names[counts > 1][0])!r} repeats in "
            f"{selection.include}. Remove the repetition."
        )
    both = np.intersect1d(include, exclude)
    if len(both):
        raise ConfigError(
            f"selection.include and selection.exclude must not share tiles; "
            f"{str(both[0])!r} is on both ({len(both)} in all). Take it off one of them."
        )
    return TileLists(include, np.unique(exclude))
