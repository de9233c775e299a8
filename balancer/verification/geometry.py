"""Exact nearest distances in plain numpy: float64, blocked, independent of balancer's own.

A squared distance is sum((x - y)^2) in float64. The expanded form |x|^2 + |y|^2 - 2 x.y, one matrix
product per block, only rules pairs out. Each of its three sums of D products has an error of at
most g times the sum of the absolute products, g = n u / (1 - n u) with u = 2^-53 and n = D plus a
few (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). As 2 |x| |y| <= |x|^2 +
|y|^2, it is off by at most 2 g (|x|^2 + |y|^2); `expansion_slack` takes n = D + 8. A pair whose
value less that slack is not below the least distance so far cannot be nearest; the others are
computed.

What is compared with these distances was computed by `balancer.distances`: the squared distance
rounded to float32 (relative error 2^-24, so 2^-25 of the distance), and perhaps its root rounded
again (2^-24). Both together, and the float64 sums with D 2^-53, stay below RELATIVE = 2^-23.
Below 2^-126, squares of float32 are spaced 2^-149, which moves a root by at most ABSOLUTE = 2^-74.
Rounding is monotone, so order statistics may be taken before or after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray

RELATIVE = 2.0**-23
ABSOLUTE = 2.0**-74
_ROWS = 1024
_COLUMNS = 2048
_PAIRS = 4096


def agree(stated: float, found: float) -> bool:
    """Whether two distances are equal up to the rounding that the module states.

    >>> agree(1.0, 1.0 + 1e-8), agree(1.0, 1.0 + 1e-6)
    (True, False)
    """
    return abs(stated - found) <= RELATIVE * max(abs(stated), abs(found)) + ABSOLUTE


def at_least(found: float, bound: float) -> bool:
    """Whether a distance is not below a bound by more than the rounding."""
    return found >= bound or agree(found, bound)


def normalize_rows(points: FloatArray) -> FloatArray:
    """Return rows of unit length as balancer defines them.

    The squares of a row are added up one after the other in float64, each coordinate is divided by
    the root of the sum, and the quotient is rounded to float32.

    >>> normalize_rows(np.array([[3, 4]], dtype=np.float32))
    array([[0.6, 0.8]], dtype=float32)
    """
    unit = np.empty_like(points)
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS].astype(np.float64)
        # cumsum adds from left to right, which sum does not promise.
        lengths = np.sqrt(np.cumsum(rows * rows, axis=1)[:, -1:])
        unit[start : start + _ROWS] = rows / lengths
    return unit


def nearest_squared(
    points: FloatArray, picks: FloatArray, cuts: Sequence[int]
) -> tuple[DoubleArray, DoubleArray]:
    """Return each row's squared distance to its nearest pick, and how it falls along the picks.

    Args:
        points: (N, D) float32.
        picks: (K, D) float32.
        cuts: rising prefix sizes, the last is K.

    Returns:
        (N,) least squared distances; (len(cuts),) for every prefix of the picks the greatest of
        the N least squared distances to it (0 when N is 0).

    Cost: O(N K D) in matrix products; 100 MB whatever N and K.

    >>> line = np.array([[0.0], [3.0], [4.0]], dtype=np.float32)
    >>> nearest_squared(line, line[:2], [1, 2])
    (array([0., 0., 1.]), array([16.,  1.]))
    """
    least = np.full(len(points), np.inf)
    greatest = np.zeros(len(cuts))
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS].astype(np.float64)
        mine = least[start : start + _ROWS]
        done = 0
        for number, cut in enumerate(cuts):
            while done < cut:
                end = min(cut, done + _COLUMNS)
                _lower(mine, rows, picks[done:end].astype(np.float64), None)
                done = end
            greatest[number] = max(greatest[number], mine.max())
    return least, greatest


def nearest_previous(points: FloatArray) -> DoubleArray:
    """Return each row's squared distance to the nearest row before it; infinity for the first.

    The least of them is the least squared distance of any two rows.

    Cost: O(N^2 D) in matrix products, half of that where N is large; 100 MB whatever N. At most
    the cost of `nearest_squared` for rows that contain these.

    >>> nearest_previous(np.array([[0.0], [3.0], [4.0]], dtype=np.float32))
    array([inf,  9.,  1.])
    """
    least = np.full(len(points), np.inf)
    for start in range(0, len(points), _ROWS):
        rows = points[start : start + _ROWS].astype(np.float64)
        numbers = np.arange(start, start + len(rows))
        for begin in range(0, start + len(rows), _COLUMNS):
            end = min(begin + _COLUMNS, start + len(rows))
            before = np.arange(begin, end)[None] < numbers[:, None]
            _lower(
                least[start : start + _ROWS],
                rows,
                points[begin:end].astype(np.float64),
                None if before.all() else before,
            )
    return least


def _lower(
    least: DoubleArray, rows: DoubleArray, others: DoubleArray, allowed: BoolArray | None
) -> None:
    """Lower `least` (n,) to the squared distances of `rows` (n, D) to `others` (m, D), in place."""
    row_squares = np.einsum("ij,ij->i", rows, rows)
    other_squares = np.einsum("ij,ij->i", others, others)
    squares = row_squares[:, None] + other_squares
    bounds = squares * (1 - expansion_slack(rows.shape[1])) - 2 * (rows @ others.T)
    if allowed is not None:
        bounds[~allowed] = np.inf
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


def _lower_pairs(
    least: DoubleArray, rows: DoubleArray, others: DoubleArray, row: IntArray, column: IntArray
) -> None:
    difference = rows[row] - others[column]
    np.minimum.at(least, row, np.einsum("ij,ij->i", difference, difference))


def expansion_slack(dim: int) -> float:
    """Return 2 g, the error of the expanded form relative to |x|^2 + |y|^2."""
    terms = (dim + 8) * 2.0**-53
    return 2 * terms / (1 - terms)
