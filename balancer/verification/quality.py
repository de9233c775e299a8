"""The quality column that a selection was weighted by: where it lies, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from balancer.storage.failures import storage_errors
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import DoubleArray, FloatArray, IdArray
from balancer.verification.inputs import Embeddings, Run
from balancer.verification.report import QUALITY, Check, failed, skipped

NOT_CHECKED = "not checked"
LEAST = 1e-6
"""Least quality over the greatest; below it squares of distances would leave float32."""
CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class Qualities:
    """The qualities of all rows that were selected from.

    Attributes:
        ids: (N,) sorted.
        squares: (N,) float32 squares of the qualities, the greatest of them 1.
    """

    ids: IdArray
    squares: FloatArray

    def of(self, ids: IdArray) -> FloatArray:
        """Return the (n,) squares of ids that are among the rows."""
        return self.squares[np.searchsorted(self.ids, ids)]


def find_qualities(
    store: Store, run: Run | None, embeddings: Embeddings, column: str, ids: IdArray
) -> Qualities | Check:
    """Return the qualities of all rows, or the check that failed or could not be made.

    The column is read from the catalog of the run, else from the Parquet files of the embeddings.

    Args:
        store: opens them.
        run: that the manifest lies in.
        embeddings: that the manifest is checked against.
        column: as the footer's configuration names it.
        ids: (N,) sorted, of all rows that were selected from.

    Raises:
        DataError: a damaged file.
        StorageError: the store refuses or fails.

    Cost: one reading of two columns; 8 bytes and an id per row.
    """
    catalog = None if run is None else run.ledger.read_commit(CATALOG)
    if run is not None and catalog is not None:
        origin, certain = "the run's catalog", True
        parts = list(_in_catalog(store, run, catalog["shards"], column))
    else:
        origin, certain = embeddings.origin, embeddings.named_by_footer
        parts = list(_beside_vectors(store, embeddings, column))
    if not parts:
        where = f"{origin} has no column {column!r}"
        if certain:
            return failed(QUALITY, f"quality_column must be a column that was read; {where}")
        return skipped(QUALITY, f"{NOT_CHECKED}: {where}; give the embeddings that have it")
    return scale(np.concatenate([i for i, _ in parts]), np.concatenate([v for _, v in parts]), ids)


def scale(names: IdArray, values: DoubleArray, ids: IdArray) -> Qualities | Check:
    """Return the qualities of `ids` (N,) sorted, found by name, or the check that failed.

    >>> scale(np.array(["b", "a"]), np.array([2.0, 4.0]), np.array(["a", "b"])).squares.tolist()
    [1.0, 0.25]
    """
    order = np.argsort(names, kind="stable")
    places = order[np.minimum(np.searchsorted(names, ids, sorter=order), len(names) - 1)]
    found = np.where(names[places] == ids, values[places], np.nan)
    bad = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(bad):
        return failed(
            QUALITY,
            f"every tile must have a finite number above 0; {str(ids[bad[0]])!r} has "
            f"{found[bad[0]]} ({len(bad)} have none)",
        )
    greatest = found.max()
    if found.min() < LEAST * greatest:
        return failed(
            QUALITY,
            f"must not fall below {LEAST} of the greatest, {greatest}; it falls to {found.min()}",
        )
    scaled = np.clip(found / greatest, LEAST, 1.0)
    return Qualities(ids, (scaled * scaled).astype(np.float32))


def _in_catalog(
    store: Store, run: Run, shards: list[dict[str, Any]], column: str
) -> Iterator[tuple[IdArray, DoubleArray]]:
    for entry in shards:
        table = read_table(store, run.ledger.absolute(entry["path"]), sha256=entry["sha256"])
        if column in table.column_names:
            yield _ids(table["tile_id"]), _numbers(table[column])


def _beside_vectors(
    store: Store, embeddings: Embeddings, column: str
) -> Iterator[tuple[IdArray, DoubleArray]]:
    for uri in embeddings.uris:
        if uri.lower().endswith(".npy"):
            continue
        with storage_errors(uri), store.open(uri) as file:
            names = pq.read_schema(file).names
        if column not in names:
            continue
        table = read_table(store, uri, columns=[embeddings.id_column, column])
        yield _ids(table[embeddings.id_column]), _numbers(table[column])


def _ids(column: pa.ChunkedArray) -> IdArray:
    return np.array(column.cast(pa.string()).to_pylist(), dtype=np.str_)


def _numbers(column: pa.ChunkedArray) -> DoubleArray:
    """Return (n,) float64, NaN where a value is no number."""
    return np.array(
        [float(v) if isinstance(v, int | float) else np.nan for v in column.to_pylist()],
        dtype=np.float64,
    )
