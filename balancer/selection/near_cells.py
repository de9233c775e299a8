"""K-means cells as blocks in which near-duplicates are looked for, exact across their borders.

A row is compared with the rows of its own cell. So that a pair on both sides of a border is found
too, a row also visits the cells that could hold a row within `reach` of it. For a row x of cell a
let f(x) = |x - b|^2 - |x - a|^2 for the centroids a and b. A row y of cell b has f(y) <= 0, and f
is linear with slope 2 |a - b|, so |x - y| <= reach gives f(x) <= 2 reach |a - b|: x lies within
`reach` of the plane between the two. That is implied by the usual condition
|x - b| <= |x - a| + 2 reach and holds for fewer rows. Of the two rows of such a pair one visits the
other's cell, that of the smaller cell, so each pair is found once.

The cells decide how much is compared and never what is found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import fit
from balancer.config import ClusteringConfig
from balancer.distances import squared_distance
from balancer.seeding import derive_seed
from balancer.selection.near_pairs import ROUNDING
from balancer.selection.pool import ArrayPool
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray

MOST_CELLS = 4096
ROWS_PER_CELL = 2500
SAMPLE_PER_CELL = 64
KMEANS = ClusteringConfig(iterations=8, sample_per_cluster=SAMPLE_PER_CELL)
ROWS_PER_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Cells:
    """Centroids in ascending order of their cells' sizes, as a sample has them.

    Attributes:
        centroids: (K, D) float32.
        gaps: (K, K) float64 distances between them.
    """

    centroids: FloatArray
    gaps: DoubleArray

    def __len__(self) -> int:
        return len(self.centroids)


@dataclass(frozen=True, slots=True)
class Routes:
    """Where the rows of one shard go.

    Attributes:
        home: (N,) int64 cell of each row.
        squared: (N,) float32 canonical squared distance to its centroid.
        visitors: (V,) int64 rows that also go elsewhere, once per visit.
        visited: (V,) int64 the cells they go to.
    """

    home: IntArray
    squared: FloatArray
    visitors: IntArray
    visited: IntArray


def default_num_cells(num_rows: int, *, alone: bool) -> int:
    """Return how many cells to cut `num_rows` rows into.

    Assigning costs N K D, comparing inside cells N^2 D / K and more with more visitors, whose
    number rises with K: half the square root of N, at most 4,096, balances them. With visitors and
    below 1.6 million rows what each cell costs by itself weighs more: there a cell gets
    `ROWS_PER_CELL` rows (of 1, 8, 16, 40, 80 and 158 cells, 40 were the fastest or within 6 % of
    it at 100,000 rows of three data sets, and 8 at 20,000; below 5,000 rows one block was).

    Args:
        num_rows: N.
        alone: rows are compared inside their own cell only, so the cells decide what is found.

    >>> default_num_cells(10_000, alone=True), default_num_cells(10_000, alone=False)
    (50, 4)
    """
    count = round(math.sqrt(num_rows) / 2)
    if not alone:
        count = min(count, num_rows // ROWS_PER_CELL)
    return min(MOST_CELLS, max(1, count))


def sample_size(num_cells: int) -> int:
    """Return how many rows are enough to place the centroids of so many cells."""
    return SAMPLE_PER_CELL * num_cells


def fit_cells(ids: IdArray, sample: FloatArray, num_cells: int, *, seed: int) -> Cells:
    """Cluster a sample into cells.

    Args:
        ids: (S,) of the sample.
        sample: (S, D) float32.
        num_cells: K; lowered to S.
        seed: of the clustering.
    """
    pool = ArrayPool(sample, ids)
    found = fit(pool, num_cells, config=KMEANS, seed=derive_seed(seed, "near-duplicates"))
    centroids = found.centroids[np.argsort(found.sizes, kind="stable")]
    gaps = np.empty((len(centroids), len(centroids)))
    _measure_gaps(centroids, gaps)
    return Cells(centroids, gaps)


def route(points: FloatArray, cells: Cells, reach: float | None) -> Routes:
    """Find the home and the visits of each row.

    Args:
        points: (N, D) float32, finite.
        cells: from `fit_cells`.
        reach: distance up to which pairs across borders must be found; None for no visits.

    Cost: N * K * D multiply-adds twice.

    >>> line = np.array([[0.0], [1.0], [1.2], [2.0]], np.float32)
    >>> cells = Cells(np.array([[0.5], [1.6]], np.float32), np.array([[0, 1.1], [1.1, 0]]))
    >>> found = route(line, cells, 0.25)
    >>> found.home, found.visitors, found.visited
    (array([0, 0, 1, 1]), array([1]), array([1]))
    """
    home, squared = assign(points, cells.centroids)
    if reach is None or len(cells) == 1 or len(points) == 0:
        none = np.empty(0, np.int64)
        return Routes(home, squared, none, none)
    others = np.einsum("ij,ij->i", cells.centroids, cells.centroids, dtype=np.float64)
    longest = math.sqrt(others.max())
    visitors, visited = [], []
    for start in range(0, len(points), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        block = points[rows]
        squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)
        # Roundings of f: of the product, of the squares, of both canonical distances that chose
        # the homes, and of the gaps; all of terms below (|x| + |c| + reach)^2.
        slack = (block.shape[1] + 16) * ROUNDING * (np.sqrt(squares) + longest + reach) ** 2
        products = block @ cells.centroids.T
        bound = squared[rows].astype(np.float64) - squares + slack
        counts = _count_visits(products, others, bound, home[rows], cells.gaps, reach)
        ends = np.cumsum(counts)
        places = np.empty(ends[-1], np.int64)
        _list_visits((products, others, bound, home[rows], cells.gaps, reach), ends, places)
        visitors.append(start + np.repeat(np.arange(len(block)), counts))
        visited.append(places)
    return Routes(home, squared, np.concatenate(visitors), np.concatenate(visited))


@numba.njit(cache=True)
def _measure_gaps(centroids: FloatArray, gaps: DoubleArray) -> None:
    for a in range(centroids.shape[0]):
        for b in range(centroids.shape[0]):
            gaps[a, b] = np.sqrt(np.float64(squared_distance(centroids[a], centroids[b])))


@numba.njit(cache=True)
def _count_visits(
    products: FloatArray,
    others: DoubleArray,
    bound: DoubleArray,
    home: IntArray,
    gaps: DoubleArray,
    reach: float,
) -> IntArray:
    counts = np.zeros(products.shape[0], np.int64)
    for i in range(products.shape[0]):
        count = 0
        gap = gaps[home[i]]
        for b in range(home[i] + 1, products.shape[1]):
            count += others[b] - 2.0 * products[i, b] <= bound[i] + 2.0 * reach * gap[b]
        counts[i] = count
    return counts


@numba.njit(cache=True)
def _list_visits(
    routing: tuple[FloatArray, DoubleArray, DoubleArray, IntArray, DoubleArray, float],
    ends: IntArray,
    places: IntArray,
) -> None:
    products, others, bound, home, gaps, reach = routing
    for i in range(products.shape[0]):
        at = ends[i - 1] if i else 0
        gap = gaps[home[i]]
        for b in range(home[i] + 1, products.shape[1]):
            if others[b] - 2.0 * products[i, b] <= bound[i] + 2.0 * reach * gap[b]:
                places[at] = b
                at += 1
