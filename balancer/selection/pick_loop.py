"""The innermost loop: picks from a small pool of fresh rows, held in the cache.

Every row outside the pool has a bound below the threshold, so while the best row of the pool is at
the threshold or above, it is the farthest of all rows. Distances are filtered by the direct sum of
squared differences in float32, whose relative error is at most (D + 3) 2^-24 in any order of
summation, and decided canonically.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.selection.bounds import Bounds, append_pick, load_row, weigh
from balancer.selection.row_order import below
from balancer.types import FloatArray, IntArray


@numba.njit(cache=True, fastmath=True)
def approximate(a: FloatArray, b: FloatArray) -> np.float32:
    """Return the squared distance in float32, in any order of summation: a filter only."""
    total = np.float32(0)
    for j in range(a.shape[0]):
        z = a[j] - b[j]
        total += z * z
    return total


@numba.njit(cache=True)
def best_row(keys: FloatArray, ranks: IntArray, count: int) -> int:
    """Return the place of the greatest key, ties to the lowest rank."""
    best = 0
    for p in range(1, count):
        if keys[p] > keys[best] or (keys[p] == keys[best] and ranks[p] < ranks[best]):
            best = p
    return best


@numba.njit(cache=True)
def ranked_row(keys: FloatArray, ranks: IntArray, count: int, skip: int) -> int:
    """Return the place of the row that follows the `skip` best; -1 when there are no more."""
    if skip == 0:
        return best_row(keys, ranks, count) if count else -1
    if count <= skip:
        return -1
    value = np.partition(keys[:count], count - 1 - skip)[count - 1 - skip]
    above = 0
    tied = np.empty(count, np.int64)
    places = np.empty(count, np.int64)
    num_tied = 0
    for p in range(count):
        if keys[p] > value:
            above += 1
        elif keys[p] == value:
            tied[num_tied] = ranks[p]
            places[num_tied] = p
            num_tied += 1
    return int(places[np.argsort(tied[:num_tied])[skip - above]])


@numba.njit(cache=True)
def _leave(bounds: Bounds, row: int, key: np.float32, num_picks: int) -> None:
    bounds.keys[row] = key
    bounds.old[row] = bounds.gap[row] = bounds.new[row] = bounds.own[row] = num_picks


class Stop(NamedTuple):
    """When a pool stops picking.

    Attributes:
        threshold, rank: best (key, rank) of any row outside the pool, or above it.
        limit: number of picks in all.
        skip: outliers left out: each pick is the row after the `skip` best.
    """

    threshold: np.float32
    rank: int
    limit: int
    skip: int


class Rows(NamedTuple):
    """Fresh rows, gathered: (m, D) vectors, (m,) keys, ranks, squared qualities and row numbers."""

    vectors: FloatArray
    keys: FloatArray
    ranks: IntArray
    weights: FloatArray
    numbers: IntArray


@numba.njit(cache=True)
def _drop(rows: Rows, place: int, last: int) -> None:
    """Move the last row to the place of one that leaves."""
    if place < last:
        for j in range(rows.vectors.shape[1]):
            rows.vectors[place, j] = rows.vectors[last, j]
        rows.keys[place] = rows.keys[last]
        rows.ranks[place] = rows.ranks[last]
        rows.weights[place] = rows.weights[last]
        rows.numbers[place] = rows.numbers[last]


@numba.njit(cache=True)
def _gather(bounds: Bounds, members: IntArray) -> Rows:
    count = members.shape[0]
    many = bounds.weights.shape[0] > 1
    rows = Rows(
        np.empty((count, bounds.points.shape[1]), np.float32),
        np.empty(count, np.float32),
        np.empty(count, np.int64),
        np.empty(count, np.float32),
        members.copy(),
    )
    for p in range(count):
        load_row(bounds.points, members[p], bounds.cosine, rows.vectors[p])
        rows.keys[p] = bounds.keys[members[p]]
        rows.ranks[p] = bounds.ranks[members[p]]
        rows.weights[p] = bounds.weights[members[p] if many else 0]
    return rows


@numba.njit(cache=True)
def lower_pool(rows: Rows, pick: FloatArray, count: int) -> None:
    """Lower the keys of the first `count` rows by one pick (D,), canonically."""
    vectors, weights, keys = rows.vectors, rows.weights, rows.keys
    sure = 1.0 - 2.0 * (vectors.shape[1] + 8) * 2.0**-24
    for p in range(count):
        near = np.float64(approximate(vectors[p], pick)) * sure
        if near * weights[p] - 1e-36 <= keys[p]:
            value = weigh(squared_distance(vectors[p], pick), weights[p])
            if value < keys[p]:
                keys[p] = value


@numba.njit(cache=True)
def run_pool(
    bounds: Bounds,
    members: IntArray,
    stop: Stop,
    num_picks: int,
    picked: IntArray,
    squared: FloatArray,
) -> int:
    """Pick from fresh rows until none is at the threshold or the limit is reached.

    After a pick at distance 0 it returns too: all rows left, but the outliers, are at 0.

    Args:
        bounds: of all rows; the pool's rows and the picks are written back.
        members: (m,) fresh rows at the threshold or above.
        stop: when to stop.
        num_picks: made so far.
        picked: (C,) int64 row of every pick, filled in.
        squared: (C,) float32 key of every pick, filled in.

    Returns:
        The number of picks made by then.

    Cost: O(m D) per pick, in the cache for m D below a few hundred thousand.
    """
    rows = _gather(bounds, members)
    count = members.shape[0]
    while num_picks < stop.limit:
        best = ranked_row(rows.keys, rows.ranks, count, stop.skip)
        if best < 0 or below(rows.keys[best], rows.ranks[best], stop.threshold, stop.rank):
            break
        row = rows.numbers[best]
        append_pick(bounds, num_picks, rows.vectors[best], bounds.cells[row])
        picked[num_picks] = row
        squared[num_picks] = rows.keys[best]
        bounds.keys[row] = -1
        num_picks += 1
        count -= 1
        _drop(rows, best, count)
        # A pick of key 0 lowers outliers too, where its distance only underflows.
        lower_pool(rows, bounds.picks[num_picks - 1], count)
        if squared[num_picks - 1] == 0:
            break
        p = 0
        while p < count:
            if below(rows.keys[p], rows.ranks[p], stop.threshold, stop.rank):
                _leave(bounds, rows.numbers[p], rows.keys[p], num_picks)
                count -= 1
                _drop(rows, p, count)
            else:
                p += 1
    for p in range(count):
        _leave(bounds, rows.numbers[p], rows.keys[p], num_picks)
    return num_picks


@numba.njit(cache=True)
def pick_offered(rows: Rows, stop: Stop, squared: FloatArray) -> IntArray:
    """Pick from offered rows while they are above everything that was not offered.

    Args:
        rows: with exact keys; reordered in place.
        stop: its threshold is the best row that was not offered.
        squared: (limit,) float32 key of each pick, filled in.

    Returns:
        The numbers of the picks, in order.
    """
    count = rows.keys.shape[0]
    chosen = np.empty(min(stop.limit, count), np.int64)
    made = 0
    while made < chosen.shape[0]:
        best = ranked_row(rows.keys, rows.ranks, count, stop.skip)
        if best < 0 or below(rows.keys[best], rows.ranks[best], stop.threshold, stop.rank):
            break
        chosen[made] = rows.numbers[best]
        squared[made] = rows.keys[best]
        made += 1
        pick = rows.vectors[best].copy()
        count -= 1
        _drop(rows, best, count)
        lower_pool(rows, pick, count)
    return chosen[:made]
