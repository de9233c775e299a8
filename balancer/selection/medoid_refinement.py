"""Medoid refinement: every pick gives way to the row nearest the mean of its Voronoi cell.

Farthest-point picks lie at the rim of what they stand for; one Lloyd step moves each of them to the
middle of its cell (the update of k-medoids, Park and Jun, Expert Systems with Applications 36,
2009, with the mean in place of the pairwise sums). Cells are disjoint and each owns its pick, so
the refined picks are as many and as distinct as the picks were.

The steps on the rows are those of `balancer.selection.medoids`, so the result is the same for any
sharding.

Guarantee: a row lies within the old radius R of its pick, and so does the new pick, which is a row
of the same cell. By the triangle inequality the new radius is at most 2 R: where the picks are
within f times the optimum, the medoids are within 2 f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.clustering.lloyd import make_scale
from balancer.selection.medoids import (
    cell_labels,
    cell_means,
    local_cells,
    local_medoids,
    merge_cells,
    merge_medoids,
)
from balancer.selection.pool import Pool
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray, ShardRows


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
