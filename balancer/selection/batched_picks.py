"""Farthest-point selection inside many clusters at once: one compiled kernel, a thread per cluster.

The picks of each cluster are those of `balancer.selection.farthest_point`. One pass in the order
that the rows lie in, so at the speed of memory, measures every row against its cluster's first
pick. From then on bounds are lazy: a row is read again only while it could still be the farthest,
and only until it cannot (with 10 picks most rows are never read again). Distances are filtered in
float32 and decided canonically, as in `balancer.selection.pick_loop`.
"""

from __future__ import annotations

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.pick_loop import approximate
from balancer.selection.row_order import SmallIntArray
from balancer.types import FloatArray, IntArray

TINY = 1e-36
"""Covers what underflows in float32."""
EXACT = -1
BLOCK = 64
"""Rows that share the greatest of their keys."""
CHUNK = 4096
BIG_ROWS = 1 << 16
BIG_PICKS = 512
"""From this many rows and picks on a cluster has all threads to itself (`farthest_point`); measured
at 100k x 64: 10 picks cost a twelfth of that, 300 about two thirds, 1,000 up to 1.3 times."""


@numba.njit(cache=True)
def _upper(approximation: np.float64, dim: int) -> np.float32:
    """Return the upper end of the error of a distance that was computed in float32."""
    return np.float32(approximation * (1.0 + 2.0 * (dim + 8) * 2.0**-24) + TINY)


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
        upper = _upper(near, point.shape[0])
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
def _greatest(keys: FloatArray, tops: FloatArray) -> int:
    """Return the place of a key in the block whose top is greatest: the greatest there."""
    block = 0
    for b in range(tops.shape[0]):
        if tops[b] > tops[block]:
            block = b
    place = block * BLOCK
    for i in range(place, min(place + BLOCK, keys.shape[0])):
        if keys[i] > keys[place]:
            place = i
    return place


@numba.njit(cache=True)
def _next_pick(  # noqa: PLR0913 - arrays of one kernel
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    keys: FloatArray,
    seen: SmallIntArray,
    nearest: SmallIntArray,
    picks: FloatArray,
    made: int,
    tops: FloatArray,
) -> int:
    """Return the place of the farthest row, ties to the lowest rank.

    `tops` holds the greatest key of every `BLOCK` rows, or more: blocks below the best are skipped.
    """
    guess = _greatest(keys, tops)
    best, floor = -1, np.float32(0)
    for turn in range(-1, tops.shape[0]):
        b = guess // BLOCK if turn < 0 else turn
        if tops[b] < floor or tops[b] < 0:
            continue
        start = guess if turn < 0 else b * BLOCK
        end = start + 1 if turn < 0 else min(start + BLOCK, keys.shape[0])
        top = np.float32(-1)
        for i in range(start, end):
            if keys[i] >= floor and i != best:
                point = points[rows[i]]
                seen[i], nearest[i], keys[i] = _catch_up(
                    point, picks, (seen[i], nearest[i], keys[i]), made, floor
                )
                if keys[i] >= floor:
                    if nearest[i] != EXACT:
                        keys[i] = squared_distance(point, picks[nearest[i]])
                        nearest[i] = EXACT
                    if (
                        best < 0
                        or keys[i] > floor
                        or (keys[i] == floor and ranks[rows[i]] < ranks[rows[best]])
                    ):
                        best, floor = i, keys[i]
            top = max(top, keys[i])
        if turn >= 0:
            tops[b] = top
    return best


@numba.njit(cache=True)
def _pick_cluster(
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    bounds: FloatArray,
    picked: IntArray,
    squared: FloatArray,
) -> None:
    """Pick from one cluster; `picked[0]` names its first pick by its place among `rows`."""
    count = rows.shape[0]
    row = picked[0]
    picked[0] = rows[row]
    squared[0] = np.inf
    if picked.shape[0] == 1:
        return
    keys = np.empty(count, np.float32)
    tops = np.full((count + BLOCK - 1) // BLOCK, -1, np.float32)
    for i in range(count):
        keys[i] = -1 if i == row else bounds[rows[i]]
        tops[i // BLOCK] = max(tops[i // BLOCK], keys[i])
    seen = np.ones(count, np.int32)
    nearest = np.zeros(count, np.int32)
    picks = np.empty((picked.shape[0], points.shape[1]), np.float32)
    picks[0] = points[picked[0]]
    for made in range(1, picked.shape[0]):
        row = _next_pick(points, rows, ranks, keys, seen, nearest, picks, made, tops)
        picked[made] = rows[row]
        squared[made] = keys[row]
        keys[row] = -1
        picks[made] = points[rows[row]]


@numba.njit(cache=True)
def _bound_rows(
    points: FloatArray, owners: SmallIntArray, firsts: FloatArray, bounds: FloatArray
) -> None:
    for i in range(points.shape[0]):
        if owners[i] >= 0:
            near = np.float64(approximate(points[i], firsts[owners[i]]))
            bounds[i] = _upper(near, points.shape[1])


@numba.njit(cache=True, parallel=True)
def _bound_chunks(
    points: FloatArray, owners: SmallIntArray, firsts: FloatArray, bounds: FloatArray
) -> None:
    """Bound each row's distance to its cluster's first pick, in the order the rows lie in."""
    for c in numba.prange((points.shape[0] + CHUNK - 1) // CHUNK):
        part = slice(c * CHUNK, min((c + 1) * CHUNK, points.shape[0]))
        _bound_rows(points[part], owners[part], firsts, bounds[part])


@numba.njit(cache=True)
def _pick_bin(  # noqa: PLR0913 - arrays of one kernel
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    bounds: FloatArray,
    spans: IntArray,
    clusters: IntArray,
    picked: IntArray,
    squared: FloatArray,
) -> None:
    for c in clusters:
        start, end, first, last = spans[c]
        _pick_cluster(
            points, rows[start:end], ranks, bounds, picked[first:last], squared[first:last]
        )


@numba.njit(cache=True, parallel=True)
def _pick_bins(  # noqa: PLR0913 - arrays of one kernel
    points: FloatArray,
    rows: IntArray,
    ranks: IntArray,
    bounds: FloatArray,
    spans: IntArray,
    dealt: IntArray,
    bins: IntArray,
    picked: IntArray,
    squared: FloatArray,
) -> None:
    for b in numba.prange(bins.shape[0] - 1):
        _pick_bin(points, rows, ranks, bounds, spans, dealt[bins[b] : bins[b + 1]], picked, squared)


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

    Cost: one pass over the rows, then at most O(D * rows * picks) per cluster, usually a small
        part of it; 8 bytes per row of `points`, and 12 per row of each thread's cluster, the
        clusters dealt to threads by work.

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
    owners = np.full(len(points), -1, np.int32)
    owners[rows] = np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(starts))
    bounds = np.empty(len(points), np.float32)
    _bound_chunks(points, owners, points[rows[starts[:-1] + firsts]], bounds)
    dealt, bins = deal((starts[1:] - starts[:-1]) * counts, numba.get_num_threads())
    _pick_bins(points, rows, ranks, bounds, spans, dealt, bins, picked, squared)
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
