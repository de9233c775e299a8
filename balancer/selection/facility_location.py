"""Facility location on a sparse graph of nearest neighbours, by lazy greedy.

A row i gains b(i, j) = 1 - (d(i, j) / R)^2 from a pick j among its k nearest neighbours, 1 from
being picked itself, and nothing from any other; of several picks the best counts. Greedy picks the
row that adds most to the sum over rows. The sum is monotone and submodular, so greedy reaches at
least 1 - 1/e of the best sum on the same graph (Nemhauser, Wolsey, Fisher, Mathematical Programming
14, 1978), and a gain found earlier is an upper bound, so that few gains are computed again (Minoux,
"Accelerated greedy algorithms for maximizing submodular set functions", 1978).

R^2 is the mean squared distance of two rows, so R is where a pick is no better than a random one.

The graph is made in one process. Up to `most_rows` rows the graph is of all of them; a larger pool
is represented by a sample of that size, the rows with the lowest hashes, and picks come from it.
Memory: rows * (4 D + 24 k) bytes; time: rows^2 * D for the graph. 100,000 rows of 128 dimensions
with k = 64 are 205 MB, and about a minute on two cores. Beyond a million rows `medoid` is the
better choice: it reads all rows and holds none.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from balancer.distances import id_ranks
from balancer.selection.neighbors import Neighbors
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray

MOST_ROWS = 100_000
"""Rows of the graph at most, unless the budget needs more."""


def num_neighbors(num_rows: int, budget: int) -> int:
    """Return k: eight times the rows that a pick stands for, from 16 to 256.

    >>> num_neighbors(1000, 100), num_neighbors(10, 5)
    (80, 9)
    """
    return min(num_rows - 1, max(16, min(256, 8 * num_rows // budget)))


def mean_squared_distance(points: FloatArray) -> float:
    """Return the mean squared distance of two rows: twice the variance around the mean.

    >>> mean_squared_distance(np.array([[0.0], [2.0]], np.float32))
    2.0
    """
    center = points.mean(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->", points, points, dtype=np.float64) / len(points)
    return 2 * max(0.0, float(squares - center @ center))


def greedy_facilities(graph: Neighbors, ids: IdArray, count: int, scale: float) -> IntArray:
    """Pick rows by lazy greedy facility location.

    Args:
        graph: of all rows.
        ids: (N,) unique ids; of equal gains the lowest id is picked.
        count: at most N.
        scale: R^2, the squared distance from which a pick is worth nothing; >= 0.

    Returns:
        (count,) int64 rows, best first.

    Raises:
        ValueError: a count out of range.

    Cost: O(N k log N) and the gains that are computed again, a few per pick.

    >>> from balancer.selection.neighbors import nearest_neighbors
    >>> line = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    >>> names = np.array(list("abcd"))
    >>> graph = nearest_neighbors(line, names, line, names, 2)
    >>> greedy_facilities(graph, names, 2, 16.0)
    array([1, 3])
    """
    num_rows, k = graph.rows.shape
    if not 1 <= count <= num_rows:
        raise ValueError(f"count must lie between 1 and the {num_rows} rows; got {count}.")
    benefit = 1 - graph.squared.astype(np.float64) / scale if scale > 0 else np.ones((num_rows, k))
    benefit = np.maximum(benefit, 0.0)
    # For each candidate the rows that it serves, itself first: the graph read by columns.
    served = np.concatenate([np.arange(num_rows), np.repeat(np.arange(num_rows), k)])
    by = np.concatenate([np.arange(num_rows), graph.rows.ravel()])
    order = np.argsort(by, kind="stable")
    starts = np.searchsorted(by[order], np.arange(num_rows + 1))
    return _lazy_greedy(
        served[order],
        np.concatenate([np.ones(num_rows), benefit.ravel()])[order],
        starts,
        id_ranks(ids),
        count,
    )


@numba.njit(cache=True)
def _lazy_greedy(
    served: IntArray, benefit: DoubleArray, starts: IntArray, ranks: IntArray, count: int
) -> IntArray:
    num_rows = len(ranks)
    best = np.zeros(num_rows)
    picks = np.empty(count, np.int64)
    fresh = np.zeros(num_rows, np.int64)
    row_of = np.empty(num_rows, np.int64)
    heap = [(0.0, np.int64(0)) for _ in range(0)]
    for row in range(num_rows):
        row_of[ranks[row]] = row
        total = 0.0
        for place in range(starts[row], starts[row + 1]):
            total += benefit[place]
        heap.append((-total, ranks[row]))
    heapq.heapify(heap)
    taken = 0
    while taken < count:
        _, rank = heapq.heappop(heap)
        row = row_of[rank]
        if fresh[row] < taken:
            total = 0.0
            for place in range(starts[row], starts[row + 1]):
                total += max(0.0, benefit[place] - best[served[place]])
            fresh[row] = taken
            heapq.heappush(heap, (-total, rank))
            continue
        picks[taken] = row
        taken += 1
        for place in range(starts[row], starts[row + 1]):
            best[served[place]] = max(best[served[place]], benefit[place])
    return picks
