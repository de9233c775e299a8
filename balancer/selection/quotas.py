"""How many rows each cluster gives: water-filling, and its general form.

With cluster sizes s_j, an exponent alpha in [0, 1], a repeat limit mu, floors l_j and caps c_j,

    x_j(lambda) = min(max(lambda s_j^alpha, l_j), min(mu s_j, c_j)),

and lambda is where the x_j add up to the budget. alpha = 1 gives shares as they are in the archive,
alpha = 0 equal ones: n* is then the greatest whole level whose sum does not exceed the budget, and
the rest goes as +1 to clusters that still have rows, in an order given by the seed (Vo et al. 2024,
arXiv 2405.15613, section 3.3, solved exactly). For other alpha, whole numbers come from the largest
remainders, ties in that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from balancer.seeding import hash_numbers
from balancer.types import DoubleArray, IntArray, Quota

BISECTIONS = 200
"""Enough to halve any interval of float64 numbers down to two neighbours."""


@dataclass(frozen=True, slots=True)
class Box:
    """What each cluster must give at least and can give at most: (K,) int64, low <= high."""

    low: IntArray
    high: IntArray


def water_filling(
    sizes: IntArray, budget: int, *, seed: int = 0, floors: IntArray | None = None
) -> Quota:
    """Share `budget` over clusters as equally as their sizes allow.

    Args:
        sizes: (K,) rows in each cluster, >= 0.
        budget: rows wanted in total.
        seed: orders the clusters for the remainder.
        floors: (K,) least that each cluster gives, such as its must-include rows; none when absent.

    Returns:
        Counts with `counts <= sizes`, summing to the budget, or to all rows with the shortfall.

    Raises:
        ValueError: a negative size, floor or budget; floors beyond the budget or the sizes.

    Cost: O(K log K) time; a few arrays of K.

    >>> water_filling(np.array([100, 3, 50]), 23).counts
    array([10,  3, 10])
    >>> water_filling(np.array([100, 3, 50]), 23, floors=np.array([16, 0, 0])).counts
    array([16,  3,  4])
    """
    return allocate(sizes, budget, seed=seed, floors=floors)


def allocate(
    sizes: IntArray,
    budget: int,
    *,
    alpha: float = 0.0,
    repeats: int = 1,
    floors: IntArray | int | None = None,
    caps: IntArray | int | None = None,
    seed: int = 0,
) -> Quota:
    """Share `budget` over clusters in proportion to `sizes ** alpha`, within floors and caps.

    Args:
        sizes: (K,) rows in each cluster, >= 0.
        budget: rows wanted in total, repetitions counted.
        alpha: 0 for equal shares, 1 for those of the archive.
        repeats: mu, how often a row may be counted.
        floors: (K,) or one number: the least that each cluster gives; none when absent.
        caps: (K,) or one number: the most that each cluster gives; none when absent.
        seed: orders the clusters for what remains after rounding down.

    Returns:
        Counts with `floors <= counts <= min(repeats * sizes, caps)`, summing to the budget, or to
        all that the clusters can give with the shortfall.

    Raises:
        ValueError: alpha outside [0, 1], a negative number, a floor above what its cluster can
            give, floors that add up to more than the budget.

    Cost: O(K log K) time; a few arrays of K.

    >>> allocate(np.array([100, 4, 25]), 17, alpha=0.5).counts
    array([10,  2,  5])
    >>> allocate(np.array([2, 10]), 12, repeats=3).counts
    array([6, 6])
    >>> allocate(np.array([90, 90, 90]), 30, caps=np.array([4, 90, 90])).counts
    array([ 4, 13, 13])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 (equal shares) and 1 (natural); got {alpha}.")
    sizes = np.asarray(sizes, dtype=np.int64)
    box = limits(sizes, repeats=repeats, floors=floors, caps=caps)
    if budget < 0:
        raise ValueError(f"sizes and budget must not be negative; got {budget}.")
    needed = int(box.low.sum())
    if needed > budget:
        raise ValueError(
            f"The floors must not add up to more than the budget ({budget}); got {needed}. Lower "
            f"the floors or raise the budget."
        )
    return fill(sizes.astype(np.float64) ** alpha if alpha else None, budget, box, seed=seed)


def limits(
    sizes: IntArray,
    *,
    repeats: int = 1,
    floors: IntArray | int | None = None,
    caps: IntArray | int | None = None,
) -> Box:
    """Return what each cluster must and can give.

    Raises:
        ValueError: a negative number, or a floor above what its cluster can give.

    >>> limits(np.array([5, 1]), repeats=2, caps=4)
    Box(low=array([0, 0]), high=array([4, 2]))
    """
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more; got {repeats}.")
    high = sizes * repeats
    if len(sizes) and sizes.min() < 0:
        raise ValueError(f"sizes and budget must not be negative; got {sizes.min()}.")
    if caps is not None:
        high = np.minimum(high, np.broadcast_to(np.asarray(caps, np.int64), sizes.shape))
    low = np.zeros_like(high)
    if floors is not None:
        low = np.broadcast_to(np.asarray(floors, np.int64), sizes.shape).copy()
    if len(sizes) and (low.min() < 0 or high.min() < 0):
        raise ValueError(f"Floors and caps must not be negative; got {min(low.min(), high.min())}.")
    over = np.flatnonzero(low > high)
    if len(over):
        raise ValueError(
            f"A floor must not exceed what its cluster can give; cluster {over[0]} can give "
            f"{high[over[0]]}, its floor is {low[over[0]]}. Lower it, or raise the cap or repeats."
        )
    return Box(low, high)


def fill(weights: DoubleArray | None, budget: int, box: Box, *, seed: int) -> Quota:
    """Share `budget` in proportion to `weights` within a box; inputs are validated.

    Args:
        weights: (K,) >= 0; None for equal ones, which are shared in whole numbers throughout.
        budget: at least the sum of `box.low`.
        box: what each cluster must and can give.
        seed: orders the clusters for what remains.

    Returns:
        The counts; a cluster of weight 0 gets its floor while another has rows.

    >>> fill(np.array([3.0, 1.0]), 10, Box(np.array([0, 0]), np.array([5, 9])), seed=0).counts
    array([5, 5])
    """
    total = int(box.high.sum())
    if total <= budget:
        return Quota(box.high.copy(), budget - total)
    if weights is None:
        return Quota(_equal(budget, box, seed))
    idle = (weights <= 0) & (box.low < box.high)
    useful = int(np.where(idle, box.low, box.high).sum())
    if useful < budget:  # even all that has a weight is not enough
        high = np.where(idle, box.high - box.low, 0)
        rest = _equal(budget - useful, Box(np.zeros_like(high), high), seed)
        return Quota(np.where(idle, box.low, box.high) + rest)
    within = Box(box.low, np.where(idle, box.low, box.high))
    return Quota(_proportional(weights, budget, within, seed))


def _equal(budget: int, box: Box, seed: int) -> IntArray:
    low, high = 0, int(box.high.max())  # S(low) <= budget < S(high), or low is already too much
    while high - low > 1:
        middle = (low + high) // 2
        if int(np.clip(middle, box.low, box.high).sum()) <= budget:
            low = middle
        else:
            high = middle
    counts: IntArray = np.clip(low, box.low, box.high)
    rising = np.flatnonzero((box.low <= low) & (low < box.high))
    remainder = budget - int(counts.sum())
    order = np.argsort(hash_numbers(rising, seed), kind="stable")
    counts[rising[order[:remainder]]] += 1
    return counts


def _proportional(weights: DoubleArray, budget: int, box: Box, seed: int) -> IntArray:
    bottom, top = box.low.astype(np.float64), box.high.astype(np.float64)
    rising = weights > 0
    low, high = 0.0, float((top[rising] / weights[rising]).max(initial=0.0)) * (1 + 1e-9)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _filled(middle, weights, bottom, top) <= budget:
            low = middle
        else:
            high = middle
    shares = np.clip(low * weights, bottom, top)
    counts = np.floor(shares).astype(np.int64)
    open_ = np.flatnonzero(counts < box.high)
    # One key: the fraction in 20 bits, because those that differ by rounding alone are ties; then
    # the hash; then the number, because the sort is stable.
    missing = np.rint((1 - (shares - counts)[open_]) * 2**20).astype(np.uint64)
    keys = (missing << np.uint64(43)) | (hash_numbers(open_, seed) >> np.uint64(21))
    order = np.argsort(keys, kind="stable")
    counts[open_[order[: budget - int(counts.sum())]]] += 1
    return counts


@numba.njit(cache=True)
def _filled(level: float, weights: DoubleArray, bottom: DoubleArray, top: DoubleArray) -> float:
    """Return the sum of the shares at a level, compensated (Kahan) for a million clusters."""
    total = lost = 0.0
    for j in range(weights.shape[0]):
        share = min(max(level * weights[j], bottom[j]), top[j]) - lost
        grown = total + share
        lost = (grown - total) - share
        total = grown
    return total
