"""Medoid refinement: every pick gives way to the row nearest the mean of its Voronoi cell.

Farthest-point picks lie at the rim of what they stand for; one Lloyd step moves each of them to the
middle of its cell (the update of k-medoids, Park and Jun, Expert Systems with Applications 36,
2009, with the mean in place of the pairwise sums). Cells are disjoint and each owns its pick, so
the refined picks are as many and as distinct as the picks were.

Local: `local_cells` adds up one shard's rows per cell in integers, and `local_medoids` finds the
shard's best row of every cell. Merge: sums of integers, and the least by (distance, id). So the
result is the same for any sharding.

Guarantee: a row lies within the old radius R of its pick, and so does the new pick, which is a row
of the same cell. By the triangle inequality the new radius is at most 2 R: where the picks are
within f times the optimum, the medoids are within 2 f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import Scale, make_scale
from balancer.distances import paired_distances
from balancer.selection.pool import Pool
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray, ShardRows


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


@dataclass(frozen=True, slots=True)
class Refined:
    """Picks moved to the middle of their cells, in the order of the picks.

    Attributes:
        ids: (n,) tile ids, all different.
        counts: (n,) int64 rows of each cell; they sum to the rows of the pool.
    """

    ids: IdArray
    counts: IntArray


def local_extent(rows: ShardRows) -> float:
    """Return the greatest absolute coordinate of one shard (local)."""
    return max(float(rows.points.max()), -float(rows.points.min()))


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


def refine(pool: Pool, pick_ids: IdArray) -> Refined:
    """Move every pick to the row nearest the mean of its Voronoi cell.

    Args:
        pool: the rows.
        pick_ids: (n,) ids of different rows, in rank order.

    Cost: three passes over the rows, two of which assign them to n picks; n * D * 20 bytes.

    >>> from balancer.selection.pool import ArrayPool
    >>> line = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    >>> refine(ArrayPool(line, np.array(["a", "b", "c", "d"])), np.array(["a", "d"])).ids
    array(['b', 'd'], dtype='<U1')
    """
    picks = pool.vectors(pick_ids)
    largest = max(pool.map_shards(local_extent))
    scale = make_scale(pool.num_rows, picks.shape[1], largest)
    total = merge_cells(pool.map_shards(local_cells, pick_ids, picks, scale), len(pick_ids))
    means = cell_means(total, scale)
    best = merge_medoids(pool.map_shards(local_medoids, pick_ids, picks, means))
    return Refined(best.ids, total.counts)


def local_counts(rows: ShardRows, pick_ids: IdArray, picks: FloatArray) -> IntArray:
    """Return the (n,) rows of one shard in the cell of each pick (local)."""
    return np.bincount(cell_labels(rows, pick_ids, picks), minlength=len(picks)).astype(np.int64)


def cell_sizes(pool: Pool, pick_ids: IdArray) -> DoubleArray:
    """Return how many rows of the pool lie in the Voronoi cell of each pick, (n,) float64.

    Cost: one pass that assigns the rows to n picks.
    """
    picks = pool.vectors(pick_ids)
    counts: DoubleArray = np.sum(
        pool.map_shards(local_counts, pick_ids, picks), axis=0, dtype=np.float64
    )
    return counts


def _least(cells: IntArray, squared: FloatArray, ids: IdArray) -> CellMedoids:
    order = np.lexsort((ids, squared, cells))
    numbers, first = np.unique(cells[order], return_index=True)
    rows = order[first]
    return CellMedoids(numbers, squared[rows], ids[rows])
