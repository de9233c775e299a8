"""The row nearest the mean of each pick's Voronoi cell: its medoid.

Local: `local_cells` adds up one part's rows per cell in integers, and `local_medoids` finds the
part's best row of every cell. Merge: sums of integers, and the least by (distance, id). So the
result is the same bits however the rows are split. A pick always belongs to its own cell, so that
every cell has a row and no row two cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import Scale, make_scale
from balancer.distances import paired_distances
from balancer.types import FloatArray, IdArray, IntArray, ShardRows


@dataclass(frozen=True, slots=True)
class CellSums:
    """What one shard adds to the cells it touches.

    Attributes:
        cells: (C,) int64 cell numbers, ascending.
        counts: (C,) int64 rows.
        sums: (C, D) int64 scaled coordinate sums.
    """

    cells: IntArray
    counts: IntArray
    sums: IntArray


@dataclass(frozen=True, slots=True)
class CellMedoids:
    """The best row of each cell that a shard touches.

    Attributes:
        cells: (C,) int64 cell numbers, ascending.
        squared: (C,) float32 canonical squared distance of that row to the cell's mean.
        ids: (C,) its id.
    """

    cells: IntArray
    squared: FloatArray
    ids: IdArray


def cell_labels(rows: ShardRows, pick_ids: IdArray, picks: FloatArray) -> IntArray:
    """Return the (N,) cell of each row: its nearest pick; a pick is always in its own.

    Args:
        rows: of one shard.
        pick_ids: (n,) ids of the picks.
        picks: (n, D) their vectors.

    Without the exception the later of two identical picks would have an empty cell.

    >>> rows = ShardRows(np.array(["a", "b", "c"]), np.zeros((3, 1), np.float32))
    >>> cell_labels(rows, np.array(["a", "c"]), np.zeros((2, 1), np.float32))
    array([0, 0, 1])
    """
    labels = assign(rows.points, picks, device=rows.device)[0]
    order = np.argsort(pick_ids, kind="stable")
    places = np.minimum(np.searchsorted(pick_ids, rows.ids, sorter=order), len(order) - 1)
    found = order[places]
    own = pick_ids[found] == rows.ids
    labels[own] = found[own]
    return labels


def local_cells(rows: ShardRows, pick_ids: IdArray, picks: FloatArray, scale: Scale) -> CellSums:
    """Add up one shard's rows per cell (local).

    Args:
        rows: of one shard.
        pick_ids: (n,) ids of the picks.
        picks: (n, D) their vectors.
        scale: of the whole pool.

    Cost: one assignment; 8 bytes per coordinate of the shard. The result is never larger than that.
    """
    labels = cell_labels(rows, pick_ids, picks)
    order = np.argsort(labels, kind="stable")
    cells, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    scaled = np.rint(np.ldexp(rows.points[order].astype(np.float64), scale.coordinate_exponent))
    return CellSums(
        cells, counts.astype(np.int64), np.add.reduceat(scaled.astype(np.int64), starts, axis=0)
    )


def merge_cells(parts: Sequence[CellSums], num_picks: int) -> CellSums:
    """Add up the cells of several shards (merge); every cell is in the result."""
    dim = parts[0].sums.shape[1]
    counts = np.zeros(num_picks, np.int64)
    sums = np.zeros((num_picks, dim), np.int64)
    for part in parts:
        counts[part.cells] += part.counts
        sums[part.cells] += part.sums
    return CellSums(np.arange(num_picks), counts, sums)


def cell_means(total: CellSums, scale: Scale) -> FloatArray:
    """Return the (n, D) float32 means of the cells (finalize)."""
    means = total.sums.astype(np.float64) / total.counts[:, None]
    return np.ldexp(means, -scale.coordinate_exponent).astype(np.float32)


def local_medoids(
    rows: ShardRows, pick_ids: IdArray, picks: FloatArray, means: FloatArray
) -> CellMedoids:
    """Find one shard's row nearest the mean of each cell, by (canonical distance, id) (local).

    Args:
        rows: of one shard.
        pick_ids: (n,) ids of the picks.
        picks: (n, D) their vectors.
        means: (n, D) float32 means of the cells.

    Cost: one assignment.

    >>> rows = ShardRows(np.array(["a", "b", "c"]), np.array([[0.0], [1.0], [2.0]], np.float32))
    >>> local_medoids(rows, np.array(["a"]), rows.points[:1], np.ones((1, 1), np.float32)).ids
    array(['b'], dtype='<U1')
    """
    labels = cell_labels(rows, pick_ids, picks)
    return _least(labels, paired_distances(rows.points, means, labels), rows.ids)


def merge_medoids(parts: Sequence[CellMedoids]) -> CellMedoids:
    """Return the best row of each cell over several shards (merge); associative."""
    return _least(
        np.concatenate([part.cells for part in parts]),
        np.concatenate([part.squared for part in parts]),
        np.concatenate([part.ids for part in parts]),
    )


def medoids(points: FloatArray, ids: IdArray, picks: IntArray) -> tuple[IntArray, FloatArray]:
    """Replace each pick by the row nearest the mean of its Voronoi cell.

    Args:
        points: (N, D) float32, C-contiguous.
        ids: (N,) unique ids.
        picks: (n,) int64 row numbers.

    Returns:
        (n,) int64 row numbers, no two alike, in the order of the picks, and the (n,) float32
        squared distance of each to its cell's mean.

    Cost: two assignments of N rows to n picks; 8 D bytes per row.

    >>> line = np.array([[0.0], [1.0], [1.2], [9.0]], np.float32)
    >>> medoids(line, np.array(["a", "b", "c", "d"]), np.array([0, 3]))[0]
    array([1, 3])
    """
    rows = ShardRows(ids, points)
    chosen, names = np.ascontiguousarray(points[picks]), ids[picks]
    scale = make_scale(len(points), points.shape[1], float(np.abs(points).max()))
    total = merge_cells([local_cells(rows, names, chosen, scale)], len(picks))
    found = local_medoids(rows, names, chosen, cell_means(total, scale))
    order = np.argsort(ids, kind="stable")
    return order[np.searchsorted(ids, found.ids, sorter=order)], found.squared


def _least(cells: IntArray, squared: FloatArray, ids: IdArray) -> CellMedoids:
    order = np.lexsort((ids, squared, cells))
    numbers, first = np.unique(cells[order], return_index=True)
    rows = order[first]
    return CellMedoids(numbers, squared[rows], ids[rows])
