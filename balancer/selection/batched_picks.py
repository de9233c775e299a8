"""Farthest-point selection inside many clusters at once: one compiled kernel, a thread per cluster.

The picks of each cluster are those of `balancer.selection.farthest_point`. A cluster's rows are
copied next to each other first, so the scan stays in the cache. Bounds are lazy: a row is measured
against the picks it has not seen only while it could still be the farthest, and it stops being
measured as soon as it cannot. Distances are filtered in float32 and decided canonically, as in
`balancer.selection.pick_loop`.
"""

from __future__ import annotations

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.pick_loop import approximate
from balancer.types import FloatArray, IntArray

TINY = 1e-36
"""Covers what underflows in float32."""
EXACT = -1
BIG_ROWS = 1 << 16
"""From this many rows on a cluster has all threads to itself (`farthest_point`)."""


@numba.njit(cache=True)
def _catch_up(
    point: FloatArray,
    picks: FloatArray,
    state: tuple[int, int, np.float32],
    made: int,
    floor: np.float32,
) -> tuple[int, int, np.float32]:
    """Lower one row's key by the picks it has not seen, until it is below `floor`.

    The state is (picks seen, nearest pick, key): while the nearest pick is known from float32
    distances alone, the key is the upper end of its error; `EXACT` stands for a canonical key.
    """
    seen, nearest, key = state
    error = 2.0 * (point.shape[0] + 8) * 2.0**-24
    for p in range(seen, made):
        near = np.float64(approximate(point, picks[p]))
        if near * (1.0 - error) - TINY > key:
            continue
        upper = np.float32(near * (1.0 + error) + TINY)
        # The lower end of the error of a key that is not exact.
        slack = 0.0 if nearest == EXACT else 3.0 * error * key + 2 * TINY
        if upper < key - slack:
            nearest, key = p, upper
        else:
            if nearest != EXACT:
                key = squared_distance(point, picks[nearest])
            nearest, key = EXACT, min(key, squared_distance(point, picks[p]))
        if key < floor:
            return p + 1, nearest, key
    return made, nearest, key


@numba.njit(cache=True)
def _next_pick(
    points: FloatArray,
    ranks: IntArray,
    keys: FloatArray,
    seen: IntArray,
    nearest: IntArray,
    picks: FloatArray,
    made: int,
) -> int:
    """Return the farthest row, ties to the lowest rank."""
    best = 0
    for i in range(keys.shape[0]):
        if keys[i] > keys[best]:
            best = i
    floor = np.float32(-1)
    for turn in range(-1, keys.shape[0]):
        i = best if turn < 0 else turn
        if keys[i] < floor or keys[i] < 0 or (turn >= 0 and i == best):
            continue
        seen[i], nearest[i], keys[i] = _catch_up(
            points[i], picks, (seen[i], nearest[i], keys[i]), made, floor
        )
        if keys[i] < floor:
            continue
        if nearest[i] != EXACT:
            keys[i] = squared_distance(points[i], picks[nearest[i]])
            nearest[i] = EXACT
        if keys[i] > floor or (keys[i] == floor and ranks[i] < ranks[best]):
            best, floor = i, keys[i]
    return best


@numba.njit(cache=True)
def _pick_cluster(
    points: FloatArray, rows: IntArray, ranks: IntArray, picked: IntArray, squared: FloatArray
) -> None:
    """Pick from one cluster; `picked[0]` names its first pick by its place among `rows`."""
    count, dim = rows.shape[0], points.shape[1]
    own = np.empty((count, dim), np.float32)
    order = np.empty(count, np.int64)
    for i in range(count):
        own[i] = points[rows[i]]
        order[i] = ranks[rows[i]]
    keys = np.full(count, np.inf, np.float32)
    seen = np.zeros(count, np.int64)
    nearest = np.full(count, EXACT, np.int64)
    picks = np.empty((picked.shape[0], dim), np.float32)
    row = picked[0]
    for made in range(picked.shape[0]):
        if made:
            row = _next_pick(own, order, keys, seen, nearest, picks, made)
        picked[made] = rows[row]
        squared[made] = keys[row]
        keys[row] = -1
        picks[made] = own[row]


@numba.njit(cache=True)
def _pick_bin(
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    spans: IntArray,
    clusters: IntArray,
    picked: IntArray,
    squared: FloatArray,
) -> None:
    for c in clusters:
        start, end, first, last = spans[c]
        _pick_cluster(points, rows[start:end], ranks, picked[first:last], squared[first:last])


@numba.njit(cache=True, parallel=True)
def _pick_bins(  # noqa: PLR0913 - arrays of one kernel
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    spans: IntArray,
    dealt: IntArray,
    bins: IntArray,
    picked: IntArray,
    squared: FloatArray,
) -> None:
    for b in numba.prange(bins.shape[0] - 1):
        _pick_bin(points, rows, ranks, spans, dealt[bins[b] : bins[b + 1]], picked, squared)


def pick_batch(
    points: FloatArray,
    ranks: IntArray,
    rows: IntArray,
    starts: IntArray,
    firsts: IntArray,
    counts: IntArray,
) -> tuple[IntArray, FloatArray]:
    """Pick by farthest-point inside each of many clusters.

    Args:
        points: (N, D) float32, C-contiguous.
        ranks: (N,) int64 order of the ids, for ties.
        rows: (M,) int64 row numbers, cluster by cluster.
        starts: (C + 1,) int64 where each cluster begins in `rows`.
        firsts: (C,) int64 place of each cluster's first pick among its rows.
        counts: (C,) int64 picks per cluster, from 1 to its rows.

    Returns:
        Row numbers of the picks, cluster by cluster, best first, and their float32 squared
        distances to the picks before them (infinity for a first one).

    Cost: at most O(D * rows * picks) per cluster, usually a small part of it; each thread copies
        one cluster at a time (4 D + 20 bytes per row), the clusters dealt to threads by work.

    >>> line = np.array([[0.0], [1.0], [5.0], [9.0], [7.0]], np.float32)
    >>> picked, squared = pick_batch(
    ...     line, np.arange(5), np.array([0, 1, 2, 3, 4]), np.array([0, 3, 5]), np.array([0, 1]),
    ...     np.array([2, 1]),
    ... )
    >>> picked.tolist(), squared.tolist()
    ([0, 2, 4], [inf, 25.0, inf])
    """
    ends = np.cumsum(counts)
    spans = np.stack([starts[:-1], starts[1:], ends - counts, ends], axis=1).astype(np.int64)
    picked = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
    picked[spans[:, 2]] = firsts
    squared = np.empty(len(picked), np.float32)
    dealt, bins = deal((starts[1:] - starts[:-1]) * counts, numba.get_num_threads())
    _pick_bins(points, rows, ranks, spans, dealt, bins, picked, squared)
    return picked, squared


def deal(work: IntArray, num_bins: int) -> tuple[IntArray, IntArray]:
    """Deal clusters into bins of about equal work, the largest first.

    Returns:
        Cluster numbers bin by bin, and (num_bins + 1,) where each bin begins.

    >>> deal(np.array([5, 1, 3, 2]), 2)
    (array([0, 1, 2, 3]), array([0, 2, 4]))
    """
    loads = np.zeros(num_bins)
    chosen: list[list[int]] = [[] for _ in range(num_bins)]
    for cluster in np.argsort(-work, kind="stable").tolist():
        lightest = int(loads.argmin())
        chosen[lightest].append(cluster)
        loads[lightest] += work[cluster]
    bins = np.cumsum([0, *(len(part) for part in chosen)])
    return np.array([c for part in chosen for c in part], np.int64), bins.astype(np.int64)
