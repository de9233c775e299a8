"""Whether each farthest-point pick was the right one: how many rows were ahead of it.

At every pick, the rows that are not picked yet stand in order of their key (their weighted squared
distance to the picks before, `balancer.verification.canonical`), greatest first, ties to the lowest
id. The pick must be the first of them, or with z outliers the one after z. So count the rows that
are ahead of it: there must be exactly z, at every pick. In the end the same is counted for the
outliers: none is ahead of the first of them, one of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from balancer.types import BoolArray, DoubleArray, FloatArray, IdArray, IntArray
from balancer.verification.canonical import (
    MARGIN,
    SMALLEST,
    expanded,
    lower,
    nearest_of,
    squared_distances,
    weigh,
)

_ROWS = 1024
_COLUMNS = 256


@dataclass(frozen=True, slots=True)
class Claimed:
    """An order to check.

    Attributes:
        ids: (k,) of the picks in rank order.
        vectors: (k, D) float32.
        keys: (k,) float32, recomputed, of each to those before it.
        start: the first so many picks need not be the farthest.
        outlier_ids: (z,) rows left out, farthest first.
        outlier_vectors: (z, D) float32.
        outlier_weights: (z,) float32 squared qualities, or None.
    """

    ids: IdArray
    vectors: FloatArray
    keys: FloatArray
    start: int
    outlier_ids: IdArray = field(default_factory=lambda: np.empty(0, np.str_))
    outlier_vectors: FloatArray = field(default_factory=lambda: np.empty((0, 1), np.float32))
    outlier_weights: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """How many rows are ahead of each pick (k,), and in the end of each outlier (z,)."""

    picks: IntArray
    outliers: IntArray


@dataclass(slots=True)
class _Block:
    """Rows that may still be ahead of a pick: (n,) ids, ranks (k: never picked), (n, D) vectors."""

    ids: IdArray
    ranks: IntArray
    points: FloatArray
    weights: FloatArray | None
    least: FloatArray

    def keep(self, mask: BoolArray) -> None:
        self.ids, self.ranks = self.ids[mask], self.ranks[mask]
        self.points, self.least = self.points[mask], self.least[mask]
        self.weights = None if self.weights is None else self.weights[mask]


def count_ahead(
    blocks: Iterable[tuple[IdArray, FloatArray, FloatArray | None]], claimed: Claimed
) -> Ahead:
    """Count the rows that are ahead of each pick.

    Args:
        blocks: ids, (n, D) float32 vectors and squared qualities (None: all 1) of all rows.
        claimed: the order.

    Cost: at most O(N k D) in matrix products: rows leave as soon as no pick to come, and no
        outlier, is as near as they are. 30 MB beside a block.

    >>> line = np.array([[0.0], [9.0], [4.0]], np.float32)
    >>> keys = np.array([np.inf, 16, 25], np.float32)
    >>> claimed = Claimed(np.array(["a", "c", "b"]), line[[0, 2, 1]], keys, 1)
    >>> count_ahead([(np.array(["a", "b", "c"]), line, None)], claimed).picks
    array([0, 1, 0])
    """
    count = len(claimed.ids)
    order = np.argsort(claimed.ids, kind="stable")
    ahead = Ahead(np.zeros(count, np.int64), np.zeros(len(claimed.outlier_ids), np.int64))
    last = np.empty(0, np.float32)
    if len(claimed.outlier_ids):
        squared = nearest_of(claimed.outlier_vectors, claimed.vectors)
        last = weigh(squared, claimed.outlier_weights)
    floors = _floors(claimed, last)
    for ids, points, weights in blocks:
        ranks = _ranks(ids, claimed.ids, order)
        for begin in range(0, len(ids), _ROWS):
            part = slice(begin, begin + _ROWS)
            block = _Block(
                ids[part],
                ranks[part],
                points[part],
                None if weights is None else weights[part],
                np.full(len(ids[part]), np.inf, np.float32),
            )
            for low in range(0, count, _COLUMNS):
                _show(block, claimed, low, ahead.picks)
                following = min(count, low + _COLUMNS)
                ahead_of_some = weigh(block.least, block.weights) >= floors[following]
                block.keep(ahead_of_some & (block.ranks >= following))
                if len(block.ids) == 0:
                    break
            _count_last(block, claimed, last, ahead.outliers)
    return ahead


def _floors(claimed: Claimed, last: FloatArray) -> FloatArray:
    """Return (k + 1,) the least key of the picks from each rank on, and of the outliers."""
    keys = claimed.keys.copy()
    keys[: claimed.start] = np.inf
    keys = np.append(keys, last.min() if len(last) else np.float32(np.inf))
    floors: FloatArray = np.minimum.accumulate(keys[::-1])[::-1]
    return floors


def _ranks(ids: IdArray, picks: IdArray, order: IntArray) -> IntArray:
    """Return each row's rank among the picks; their number for the others."""
    places = np.minimum(np.searchsorted(picks, ids, sorter=order), len(picks) - 1)
    found = order[places]
    ranks: IntArray = np.where(picks[found] == ids, found, len(picks))
    return ranks


def _show(block: _Block, claimed: Claimed, low: int, ahead: IntArray) -> None:
    """Count what is ahead of the picks from `low` on, and lower the rows by them."""
    picks = claimed.vectors[low : low + _COLUMNS]
    numbers = np.arange(low, low + len(picks))
    keys = claimed.keys[low : low + _COLUMNS].astype(np.float64)
    bounds, spread = expanded(block.points, picks)
    free = (block.ranks[:, None] > numbers) & (numbers >= claimed.start)
    if free.any():
        factors = 1.0 if block.weights is None else block.weights.astype(np.float64)[:, None]
        start = block.least.astype(np.float64)[:, None]
        surely = free & (factors * _before(start, bounds) > keys * (1 + MARGIN) + SMALLEST)
        perhaps = free & ~surely
        perhaps &= factors * _before(start, bounds + spread) >= keys * (1 - MARGIN) - SMALLEST
        ahead[numbers] += surely.sum(axis=0)
        for row in np.flatnonzero(perhaps.any(axis=1)).tolist():
            ahead[numbers] += perhaps[row] & _is_ahead(block, row, claimed, low, len(picks))
    lower(block.least, block.points, picks, bounds)


def _before(start: DoubleArray, squared: DoubleArray) -> DoubleArray:
    """Return the least of `start` and all columns before each."""
    least = np.minimum.accumulate(np.concatenate([start, squared], axis=1), axis=1)[:, :-1]
    found: DoubleArray = np.maximum(least, 0)
    return found


def _is_ahead(block: _Block, row: int, claimed: Claimed, low: int, count: int) -> BoolArray:
    """Decide, to the last bit, whether a row is ahead of each of `count` picks from `low` on."""
    picks = claimed.vectors[low : low + count]
    key = claimed.keys[low : low + count]
    least = np.full(count, block.least[row])
    if block.least[row] > 0:
        squared = squared_distances(np.broadcast_to(block.points[row], picks.shape), picks)
        least[1:] = np.minimum(least[1:], np.minimum.accumulate(squared[:-1]))
    own = weigh(least, None if block.weights is None else np.full(count, block.weights[row]))
    lowest = block.ids[row] < claimed.ids[low : low + count]
    found: BoolArray = (own > key) | ((own == key) & lowest)
    return found


def _count_last(block: _Block, claimed: Claimed, last: FloatArray, ahead: IntArray) -> None:
    """Count which rows that are never picked are ahead of the outliers."""
    if len(last) == 0:
        return
    keys = weigh(block.least, block.weights)
    rows = np.flatnonzero((block.ranks == len(claimed.ids)) & (keys >= last.min()))
    for row in rows.tolist():
        lowest = block.ids[row] < claimed.outlier_ids
        ahead += (keys[row] > last) | ((keys[row] == last) & lowest)
