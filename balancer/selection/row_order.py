"""In which order rows are caught up, and which of them still matter."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from balancer.selection.bounds import Bounds
from balancer.types import IntArray

SmallIntArray = np.ndarray[tuple[Any, ...], np.dtype[np.signedinteger[Any]]]


@numba.njit(cache=True)
def below(key: np.float32, rank: int, threshold: np.float32, threshold_rank: int) -> bool:
    """Whether (key, rank) comes after the threshold: farther rows first, then lower ranks."""
    return bool(key < threshold or (key == threshold and rank > threshold_rank))


@numba.njit(cache=True)
def counting_order(values: SmallIntArray, count: int) -> IntArray:
    """Return the stable order of integers from 0 to below `count` (counting sort)."""
    starts = np.zeros(count + 1, np.int64)
    for i in range(values.shape[0]):
        starts[values[i] + 1] += 1
    for v in range(count):
        starts[v + 1] += starts[v]
    order = np.empty(values.shape[0], np.int64)
    for i in range(values.shape[0]):
        order[starts[values[i]]] = i
        starts[values[i]] += 1
    return order


@numba.njit(cache=True)
def cell_tiles(cells: SmallIntArray, size: int) -> IntArray:
    """Cut rows sorted by cell into tiles of one cell and at most `size` rows."""
    starts = np.empty(cells.shape[0] + 1, np.int64)
    count = 0
    for i in range(cells.shape[0]):
        if i == 0 or cells[i] != cells[i - 1] or i - starts[count - 1] == size:
            starts[count] = i
            count += 1
    starts[count] = cells.shape[0]
    return starts[: count + 1]


@numba.njit(cache=True)
def rows_above(bounds: Bounds, rows: IntArray, threshold: np.float32, rank: int) -> IntArray:
    """Return the rows whose bound is not below the threshold."""
    kept = np.empty(rows.shape[0], np.int64)
    count = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        if not below(bounds.keys[row], bounds.ranks[row], threshold, rank):
            kept[count] = row
            count += 1
    return kept[:count]
