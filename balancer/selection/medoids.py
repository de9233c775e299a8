"""Medoid refinement: each pick becomes the row nearest the mean of its Voronoi cell.

Local: `cell_sums`, then `cell_nearest`. Merge: `merge_sums`, `merge_nearest`. Sums are exact
integers (as in `balancer.clustering.kmeans`), so the means are the same bits however the rows are
split. A pick always belongs to its own cell, so that every cell has a row and no row two cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import make_scale
from balancer.distances import paired_distances
from balancer.types import FloatArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class CellSums:
    """(n, D) int64 scaled coordinate sums and (n,) int64 rows of each Voronoi cell."""

    sums: IntArray
    counts: IntArray


@dataclass(frozen=True, slots=True)
class Nearest:
    """The row nearest the mean of each cell: (n,) ids, and (n,) squared distances.

    A cell without rows here has the id "" and the distance infinity.
    """

    ids: IdArray
    squared: FloatArray


def mean_exponent(num_rows: int, dim: int, largest: float) -> int:
    """Return the power of two by which coordinates of one cluster become integers.

    >>> mean_exponent(4, 2, 1.0)
    59
    """
    return make_scale(num_rows, dim, largest).coordinate_exponent


def cell_sums(
    points: FloatArray,
    ids: IdArray,
    picks: FloatArray,
    pick_ids: IdArray,
    exponent: int,
    *,
    device: str = "cpu",
) -> tuple[CellSums, IntArray]:
    """Add up one part's rows by Voronoi cell; return the sums and (N,) cell of each row.

    Cost: one assignment to n picks; 8 D bytes per row.
    """
    cells = voronoi_cells(points, ids, picks, pick_ids, device=device)
    integers = np.rint(np.ldexp(points.astype(np.float64), exponent)).astype(np.int64)
    members = sparse.csr_array(
        (np.ones(len(points), np.int64), (cells, np.arange(len(points)))),
        shape=(len(picks), len(points)),
    )
    counts = np.bincount(cells, minlength=len(picks)).astype(np.int64)
    return CellSums(np.asarray(members @ integers), counts), cells


def merge_sums(parts: Sequence[CellSums]) -> CellSums:
    """Add up the sums of several parts."""
    return CellSums(
        np.sum([part.sums for part in parts], axis=0, dtype=np.int64),
        np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
    )


def cell_means(total: CellSums, exponent: int) -> FloatArray:
    """Return the (n, D) float32 means of the cells (finalize)."""
    means = total.sums.astype(np.float64) / total.counts[:, None]
    return np.ldexp(means, -exponent).astype(np.float32)


def cell_nearest(points: FloatArray, ids: IdArray, cells: IntArray, means: FloatArray) -> Nearest:
    """Find one part's row nearest each mean among the rows of its cell, ties to the lowest id."""
    squared = paired_distances(points, means, cells)
    found = Nearest(
        np.full(len(means), "", dtype=ids.dtype if len(ids) else np.str_),
        np.full(len(means), np.inf, np.float32),
    )
    order = np.lexsort((ids, squared, cells))
    first = order[np.unique(cells[order], return_index=True)[1]]
    found.ids[cells[first]] = ids[first]
    found.squared[cells[first]] = squared[first]
    return found


def merge_nearest(parts: Sequence[Nearest]) -> Nearest:
    """Keep the nearest row of each cell over several parts, ties to the lowest id."""
    ids = np.stack([part.ids for part in parts])
    squared = np.stack([part.squared for part in parts])
    # An empty id would win ties, but stands at infinity, where no row is.
    best = np.lexsort((ids, squared), axis=0)[0]
    cells = np.arange(ids.shape[1])
    return Nearest(ids[best, cells], squared[best, cells])


def medoids(points: FloatArray, ids: IdArray, picks: IntArray) -> tuple[IntArray, FloatArray]:
    """Replace each pick by the row nearest the mean of its Voronoi cell.

    Args:
        points: (N, D) float32, C-contiguous.
        ids: (N,) unique ids.
        picks: (n,) int64 row numbers.

    Returns:
        (n,) int64 row numbers, no two alike, in the order of the picks, and the (n,) float32
        squared distance of each to its cell's mean.

    Cost: one assignment of N rows to n picks; 8 D bytes per row.

    >>> line = np.array([[0.0], [1.0], [1.2], [9.0]], np.float32)
    >>> medoids(line, np.array(["a", "b", "c", "d"]), np.array([0, 3]))[0]
    array([1, 3])
    """
    exponent = mean_exponent(len(points), points.shape[1], float(np.abs(points).max()))
    chosen = np.ascontiguousarray(points[picks])
    total, cells = cell_sums(points, ids, chosen, ids[picks], exponent)
    found = cell_nearest(points, ids, cells, cell_means(total, exponent))
    order = np.argsort(ids, kind="stable")
    return order[np.searchsorted(ids, found.ids, sorter=order)], found.squared


def voronoi_cells(
    points: FloatArray,
    ids: IdArray,
    picks: FloatArray,
    pick_ids: IdArray,
    *,
    device: str = "cpu",
) -> IntArray:
    """Return the (N,) number of each row's nearest pick; a pick's own where it is one itself.

    Args:
        points: (N, D) float32.
        ids: (N,) their ids.
        picks: (n, D) float32.
        pick_ids: (n,) their ids.
        device: where rows are assigned; the result does not depend on it.

    >>> twins = np.ones((2, 1), np.float32)
    >>> voronoi_cells(twins, np.array(["a", "b"]), twins, np.array(["a", "b"]))
    array([0, 1])
    """
    cells, _ = assign(points, picks, device=device)
    order = np.argsort(pick_ids, kind="stable")
    places = np.minimum(np.searchsorted(pick_ids, ids, sorter=order), len(pick_ids) - 1)
    mine = order[places]
    return np.where(pick_ids[mine] == ids, mine, cells)
