"""The distances that decide between tiles, to the last bit, in plain numpy.

A selection orders tiles by keys: float32( w * float32( sum over dimensions of the float64 squared
difference ) ), w the float32 square of a tile's quality or 1, ties to the lowest tile id. The sum
is taken in eight lanes, dimension j in lane j mod 8, the lanes are added in pairs, and what is left
of the dimensions after the last eight comes last. So that an order can be checked without a margin
for rounding, the definition is followed here with code of its own. The expanded form of
`balancer.verification.geometry` rules out most pairs.
"""

from __future__ import annotations

import numpy as np

from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray
from balancer.verification.geometry import expansion_slack

MARGIN = 2.0**-20
"""Relative; far above the roundings between a distance in float64 and its key."""
SMALLEST = 2.0**-140
"""Absolute, for distances below the least normal float32."""
_ROWS = 1024
_PAIRS = 4096
_LANES = 8


def squared_distances(rows: FloatArray, others: FloatArray) -> FloatArray:
    """Return the (n,) float32 squared distances of rows[i] and others[i], both (n, D) float32.

    >>> squared_distances(np.array([[0, 3]], np.float32), np.array([[4, 0]], np.float32))
    array([25.], dtype=float32)
    """
    squares = (rows.astype(np.float64) - others.astype(np.float64)) ** 2
    whole = squares.shape[1] - squares.shape[1] % _LANES
    lanes = np.zeros((len(squares), _LANES))
    for begin in range(0, whole, _LANES):
        lanes += squares[:, begin : begin + _LANES]
    tail = np.zeros(len(squares))
    for place in range(whole, squares.shape[1]):
        tail += squares[:, place]
    low = (lanes[:, 0] + lanes[:, 1]) + (lanes[:, 2] + lanes[:, 3])
    high = (lanes[:, 4] + lanes[:, 5]) + (lanes[:, 6] + lanes[:, 7])
    total: FloatArray = ((low + high) + tail).astype(np.float32)
    return total


def weigh(squared: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Return the keys of squared distances; (n,) or (n, m) float32, weights by row.

    >>> weigh(np.array([4], np.float32), np.array([0.25], np.float32))
    array([1.], dtype=float32)
    """
    if weights is None:
        return squared
    factors = weights.astype(np.float64)
    factors = factors if squared.ndim == 1 else factors[:, None]
    keys: FloatArray = (squared.astype(np.float64) * factors).astype(np.float32)
    return keys


def expanded(rows: FloatArray, others: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """Return (n, m) lower bounds of the true squared distances, and what to add for upper ones."""
    wide, across = rows.astype(np.float64), others.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)[:, None] + np.einsum("ij,ij->i", across, across)
    spread = squares * expansion_slack(rows.shape[1])
    return squares - spread - 2 * (wide @ across.T), 2 * spread


def lower(
    least: FloatArray,
    rows: FloatArray,
    others: FloatArray,
    bounds: DoubleArray,
    allowed: BoolArray | None = None,
) -> None:
    """Lower `least` (n,) float32 to the squared distances of rows to others, in place.

    Args:
        least: changed.
        rows: (n, D) float32.
        others: (m, D) float32.
        bounds: (n, m) lower bounds from `expanded`; spoiled.
        allowed: (n, m) pairs that count; all when None.
    """
    if allowed is not None:
        bounds[~allowed] = np.inf
    bounds *= 1 - MARGIN
    bounds -= SMALLEST
    # The most promising column first: it usually rules out all others.
    column = bounds.argmin(axis=1)
    row = np.flatnonzero(bounds[np.arange(len(rows)), column] < least)
    _lower_pairs(least, rows, others, row, column[row])
    bounds[row, column[row]] = np.inf
    row, column = np.nonzero(bounds < least[:, None])
    column, row = column[least[row] > 0], row[least[row] > 0]
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        _lower_pairs(least, rows, others, row[part], column[part])


def nearest_before(points: FloatArray) -> FloatArray:
    """Return each row's squared distance to the nearest row before it; infinity for the first.

    Cost: O(N^2 D) in matrix products; 50 MB whatever N.

    >>> nearest_before(np.array([[0.0], [3.0], [4.0]], np.float32))
    array([inf,  9.,  1.], dtype=float32)
    """
    least = np.full(len(points), np.inf, np.float32)
    for start in range(0, len(points), _ROWS):
        rows, numbers = points[start : start + _ROWS], np.arange(start, len(points))[:_ROWS]
        for begin in range(0, start + len(rows), _ROWS):
            others = points[begin : min(begin + _ROWS, start + len(rows))]
            before = np.arange(begin, begin + len(others))[None] < numbers[:, None]
            lower(
                least[start : start + _ROWS],
                rows,
                others,
                expanded(rows, others)[0],
                None if before.all() else before,
            )
    return least


def nearest_of(points: FloatArray, others: FloatArray) -> FloatArray:
    """Return each row's squared distance to the nearest of `others`: (N,) float32.

    >>> nearest_of(np.array([[0.0], [3.0]], np.float32), np.array([[1.0]], np.float32))
    array([1., 4.], dtype=float32)
    """
    least = np.full(len(points), np.inf, np.float32)
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS]
        for begin in range(0, len(others), _ROWS):
            across = others[begin : begin + _ROWS]
            lower(least[start : start + _ROWS], rows, across, expanded(rows, across)[0])
    return least


def _lower_pairs(
    least: FloatArray, rows: FloatArray, others: FloatArray, row: IntArray, column: IntArray
) -> None:
    np.minimum.at(least, row, squared_distances(rows[row], others[column]))
