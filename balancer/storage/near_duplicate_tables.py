"""Tables of near-duplicates: one row per tile, and the near pairs down to a floor.

Tiles: `tile_id`, `order` (place in the order of deciding), `kept`, `kept_by` (the kept tile for
which it was dropped), `nearest_id` with its `similarity` and `distance`, and
`num_near_duplicates` (tiles dropped for this one). The nearest is looked for among all tiles down
to the floor; without a floor only `kept_by` is known. Pairs: `first_id` comes before `second_id` in
the order; `squared_distance` is the canonical one, so a threshold applied to it later decides the
same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import FileRecord, read_table, write_table
from balancer.storage.tile_metadata import NEAR_COLUMN
from balancer.types import FloatArray, IdArray, IntArray

FOOTER_KEY = "balancer"
TILES, PAIRS = "tiles", "pairs"
"""Folders of a deduplication that is written as a folder."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """One other tile for each of N tiles.

    Attributes:
        ids: (N,) its id; empty where there is none.
        squared: (N,) float32 squared distance to it; NaN where there is none.
    """

    ids: IdArray
    squared: FloatArray


def tile_table(
    ids: IdArray,
    order: IntArray,
    kept_by: IdArray,
    nearest: Neighbours,
    num_near: IntArray,
    *,
    by_similarity: bool,
) -> pa.Table:
    """Return the table of N tiles.

    Args:
        ids: (N,).
        order: (N,) place of each in the order.
        kept_by: (N,) empty where the tile is kept.
        nearest: of each tile.
        num_near: (N,) tiles dropped for this one.
        by_similarity: whether the rows are unit vectors; `similarity` is null otherwise.
    """
    none = nearest.ids == ""
    squared = nearest.squared.astype(np.float64)
    similarity = (1 - squared / 2).astype(np.float32)
    return pa.table(
        {
            "tile_id": pa.array(ids.tolist(), pa.string()),
            "order": pa.array(order, pa.int64()),
            "kept": pa.array(kept_by == ""),
            "kept_by": _texts(kept_by),
            "nearest_id": _texts(nearest.ids),
            "similarity": pa.array(similarity, pa.float32(), mask=none | (not by_similarity)),
            "distance": pa.array(np.sqrt(squared).astype(np.float32), pa.float32(), mask=none),
            NEAR_COLUMN: pa.array(num_near, pa.int64()),
        }
    )


def redecided(table: pa.Table, kept_by: IdArray, num_near: IntArray) -> pa.Table:
    """Return a table of tiles with other decisions.

    Args:
        table: from `tile_table`.
        kept_by: (N,) empty where the tile is kept.
        num_near: (N,) tiles dropped for this one.
    """
    columns = {
        "kept": pa.array(kept_by == ""),
        "kept_by": _texts(kept_by),
        NEAR_COLUMN: pa.array(num_near, pa.int64()),
    }
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def pair_table(first: IdArray, second: IdArray, squared: FloatArray) -> pa.Table:
    """Return the table of P pairs."""
    return pa.table(
        {
            "first_id": pa.array(first.tolist(), pa.string()),
            "second_id": pa.array(second.tolist(), pa.string()),
            "squared_distance": pa.array(squared, pa.float32()),
        }
    )


def write_near_table(
    store: Store, uri: str, table: pa.Table, facts: Mapping[str, Any]
) -> FileRecord:
    """Write a table with the facts of its deduplication in the footer."""
    return write_table(store, uri, table, {FOOTER_KEY: json.dumps(facts, sort_keys=True)})


@dataclass(frozen=True, slots=True)
class StoredPairs:
    """What a stored deduplication can be decided from again.

    Attributes:
        parts: tile tables, one per file, in the order of their names.
        first: (P,) rank of the earlier tile of each pair.
        second: (P,) rank of the later one.
        squared: (P,) float32.
        facts: of the footer.
    """

    parts: tuple[pa.Table, ...]
    first: IntArray
    second: IntArray
    squared: FloatArray
    facts: Mapping[str, Any]


def is_stored(store: Store, uri: str) -> bool:
    """Tell whether a folder was written by a deduplication."""
    if uri.lower().endswith((".npy", ".parquet", ".pq")):
        return False
    return any(f.uri.endswith(".parquet") for f in store.list_files(store.join(uri, TILES)))


def read_stored(store: Store, uri: str) -> StoredPairs:
    """Read the tables of a folder.

    Raises:
        DataError: missing or damaged tables, or tables without pairs.
        StorageError: the store refuses or fails.
    """
    files = [f.uri for f in store.list_files(store.join(uri, TILES))]
    parts = tuple(read_table(store, name) for name in sorted(files))
    facts = json.loads((parts[0].schema.metadata or {}).get(FOOTER_KEY.encode(), b"{}"))
    pair_files = sorted(f.uri for f in store.list_files(store.join(uri, PAIRS)))
    if not pair_files:
        raise DataError(
            f"{uri} must hold the near pairs for another threshold to be applied; it was written "
            f"without a floor. Deduplicate the embeddings again, with --floor to list pairs."
        )
    pairs = pa.concat_tables([read_table(store, name) for name in pair_files])
    ids = np.concatenate([np.array(part["tile_id"].to_pylist(), np.str_) for part in parts])
    order = np.concatenate([part["order"].to_numpy() for part in parts])
    sorter = np.argsort(ids, kind="stable")

    def ranks(column: str) -> IntArray:
        wanted = np.array(pairs[column].to_pylist(), np.str_)
        places = np.minimum(np.searchsorted(ids, wanted, sorter=sorter), len(ids) - 1)
        rows = sorter[places]
        if (ids[rows] != wanted).any():
            raise DataError(f"{uri} must hold every tile of its pairs; write it again.")
        found: IntArray = order[rows]
        return found

    squared = pairs["squared_distance"].to_numpy().astype(np.float32)
    return StoredPairs(parts, ranks("first_id"), ranks("second_id"), squared, facts)


def _texts(values: IdArray) -> pa.Array:
    return pa.array(values.tolist(), pa.string(), mask=values == "")


def num_near(num_rows: int, by: IntArray) -> IntArray:
    """Return how many of the rows were dropped for each one.

    >>> num_near(3, np.array([-1, 0, 0]))
    array([2, 0, 0])
    """
    return np.bincount(by[by >= 0], minlength=num_rows).astype(np.int64)
