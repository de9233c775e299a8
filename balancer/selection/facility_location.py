"""Facility location by a power of the distance, on a graph of nearest neighbours, lazy greedy.

Minimise over n picks S the loss

    sum_i min(d(i, S), r_i)^p,

with r_i the distance of row i to its k-th nearest neighbour, the edge of the graph. The power joins
two known problems: p = 2 is k-medoids by squares, whose picks follow the density f, as f^(m / (m +
2)) in m dimensions (Zador, IEEE Trans. Information Theory 28, 1982: f^(m / (m + p)) for the power
p), and p to infinity is k-center, which ignores the density and follows outliers. Between them
picks are nearly even over the space where rows are, and central: a pick is worth what it saves all
rows near it, not that it is far away itself.

What a pick saves is monotone and submodular, so greedy reaches at least 1 - 1/e of the best saving
on the same graph (Nemhauser, Wolsey, Fisher, Mathematical Programming 14, 1978), and a saving found
earlier is an upper bound, so that few are computed again (Minoux, "Accelerated greedy algorithms
for maximizing submodular set functions", 1978). Deterministic: no seed.

The graph is made in one process: N^2 D multiply-adds and N (4 D + 40 k) bytes. 100,000 rows of 128
dimensions have k = 200 and take 0.9 GB, and minutes on two cores. See `balancer.selection.recipes`
for what represents a larger pool.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from balancer.distances import id_ranks
from balancer.selection.neighbors import Neighbors
from balancer.types import DoubleArray, IdArray, IntArray

GRAPH_ENTRIES = 20_000_000
"""Neighbours of all rows together, at most: 0.8 GB."""
FEWEST_NEIGHBORS = 64


def num_neighbors(num_rows: int) -> int:
    """Return k: as many neighbours as memory is set aside for, all others in a small pool.

    >>> num_neighbors(3000), num_neighbors(100_000), num_neighbors(1_000_000)
    (2999, 200, 64)
    """
    return min(num_rows - 1, max(FEWEST_NEIGHBORS, GRAPH_ENTRIES // num_rows))


def greedy_facilities(
    graph: Neighbors, ids: IdArray, count: int, *, power: float, given: IntArray | None = None
) -> IntArray:
    """Pick rows by lazy greedy facility location.

    Args:
        graph: of all rows.
        ids: (N,) unique ids; of equal savings the lowest id is picked.
        count: from 1 to N; from 0 to the other rows where some are given.
        power: p of the module's text, above 0.
        given: (m,) different rows that are picked already; none when absent.

    Returns:
        (count,) int64 other rows, best first.

    Raises:
        ValueError: a count or power out of range.

    Cost: O(N k log N) and the savings that are computed again, a few per pick.

    >>> from balancer.selection.neighbors import nearest_neighbors
    >>> line = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    >>> names = np.array(list("abcd"))
    >>> graph = nearest_neighbors(line, names, line, names, 3)
    >>> greedy_facilities(graph, names, 2, power=2.0)
    array([2, 3])
    """
    num_rows, k = graph.rows.shape
    taken = np.empty(0, np.int64) if given is None else given
    least, most = 0 if len(taken) else 1, num_rows - len(taken)
    if not least <= count <= most:
        raise ValueError(f"count must lie between {least} and the {most} rows; got {count}.")
    if not power > 0:
        raise ValueError(f"power must be above 0; got {power}.")
    largest = float(graph.squared[:, -1].max()) or 1.0
    losses = (graph.squared.astype(np.float64) / largest) ** (power / 2)
    edges = losses[:, -1]
    # For each candidate the rows that it serves, itself first: the graph read by columns.
    served = np.concatenate([np.arange(num_rows), np.repeat(np.arange(num_rows), k)])
    by = np.concatenate([np.arange(num_rows), graph.rows.ravel()])
    savings = np.concatenate([edges, (edges[:, None] - losses).ravel()])
    order = np.argsort(by, kind="stable")
    starts = np.searchsorted(by[order], np.arange(num_rows + 1))
    return _lazy_greedy(served[order], savings[order], starts, id_ranks(ids), taken, count)


@numba.njit(cache=True)
def _lazy_greedy(
    served: IntArray,
    savings: DoubleArray,
    starts: IntArray,
    ranks: IntArray,
    given: IntArray,
    count: int,
) -> IntArray:
    num_rows = len(ranks)
    best = np.zeros(num_rows)
    free = np.ones(num_rows, np.bool_)
    for row in given:
        free[row] = False
        for place in range(starts[row], starts[row + 1]):
            best[served[place]] = max(best[served[place]], savings[place])
    picks = np.empty(count, np.int64)
    fresh = np.zeros(num_rows, np.int64)
    row_of = np.empty(num_rows, np.int64)
    heap = [(0.0, np.int64(0)) for _ in range(0)]
    for row in range(num_rows):
        row_of[ranks[row]] = row
        if not free[row]:
            continue
        total = 0.0
        for place in range(starts[row], starts[row + 1]):
            total += max(0.0, savings[place] - best[served[place]])
        heap.append((-total, ranks[row]))
    heapq.heapify(heap)
    taken = 0
    while taken < count:
        _, rank = heapq.heappop(heap)
        row = row_of[rank]
        if fresh[row] < taken:
            total = 0.0
            for place in range(starts[row], starts[row + 1]):
                total += max(0.0, savings[place] - best[served[place]])
            fresh[row] = taken
            heapq.heappush(heap, (-total, rank))
            continue
        picks[taken] = row
        taken += 1
        for place in range(starts[row], starts[row + 1]):
            best[served[place]] = max(best[served[place]], savings[place])
    return picks
