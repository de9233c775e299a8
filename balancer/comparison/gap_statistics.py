"""How much of a gap an arm closes, and how many random tiles it is worth.

Both compare arms of one size: the arm, random picks, and picks balanced with labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import isotonic_regression

from balancer.comparison.intervals import Interval, mean_interval
from balancer.types import DoubleArray

RESAMPLES = 4000
"""Bootstrap resamples of the units."""
LOWER, UPPER = 0.025, 0.975
"""Of the 95 % intervals."""


@dataclass(frozen=True, slots=True)
class GapClosed:
    """The share of the gap between random and balanced picks that an arm closes.

    Attributes:
        share: mean gain of the arm over the mean gain of balanced picks, both over random ones; NaN
            where the latter is 0.
        low: of its 95 % interval; minus infinity where it has no end.
        high: likewise, infinity.
        gap: balanced minus random.
    """

    share: float
    low: float
    high: float
    gap: Interval

    @property
    def has_gap(self) -> bool:
        """Whether the gap is told from nothing, so that a share of it means something."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def gap_closed(
    arm: ArrayLike,
    random: ArrayLike,
    balanced: ArrayLike,
    *,
    method: Literal["fieller", "bootstrap"] = "fieller",
    rng: np.random.Generator | None = None,
) -> GapClosed:
    """Return the share of the random-to-balanced gap that an arm closes.

    `fieller` is exact for normal gains and says when the gap is too near to nothing for a share of
    it (Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B
    16, 1954). `bootstrap` is the percentile interval over resampled units, for gains that are not
    normal; it looks too narrow for few units.

    Args:
        arm: (n,) unit values, see `balancer.comparison.intervals.unit_values`.
        random: (n,) of the same units.
        balanced: (n,) likewise.
        method: how the interval is made.
        rng: for `bootstrap`.

    Raises:
        ValueError: lengths that differ, fewer than two units, no generator for `bootstrap`.

    >>> found = gap_closed([5.0, 5.2, 4.8], [0.0, 0.1, 0.0], [10.0, 10.1, 10.1])
    >>> round(found.share, 2), found.has_gap
    (0.5, True)
    """
    gain, gap = _gains(arm, random, balanced)
    mean_gap = float(gap.mean())
    share = float(gain.mean()) / mean_gap if mean_gap != 0 else float("nan")
    if method == "fieller":
        low, high = _fieller(gain, gap)
    else:
        if rng is None:
            raise ValueError("The bootstrap must be given rng, a generator.")
        low, high = _bootstrap_ratio(gain, gap, rng)
    return GapClosed(share, low, high, mean_interval(gap))


@dataclass(frozen=True, slots=True)
class EquivalentSize:
    """How many random tiles do as well as an arm.

    Attributes:
        size: infinity where the arm is above the whole curve; the smallest size where it is below.
        low: of its 95 % interval.
        high: likewise.
        factor: size over the arm's own size.
    """

    size: float
    low: float
    high: float
    factor: float


def equivalent_random_size(
    sizes: ArrayLike,
    curve: ArrayLike,
    arm: ArrayLike,
    arm_size: int,
    rng: np.random.Generator,
) -> EquivalentSize:
    """Return how many random tiles match an arm, read off a learning curve of random picks.

    The curve is the mean over units, made non-decreasing by isotonic regression, and linear between
    sizes in the logarithm of the size. The interval is a percentile bootstrap of the units, which
    the curve and the arm share.

    Args:
        sizes: (K,) sizes of random sets, ascending.
        curve: (n, K) unit values of random sets.
        arm: (n,) unit values of the arm.
        arm_size: tiles in the arm.
        rng: of the bootstrap.

    Raises:
        ValueError: shapes that do not fit, sizes that do not ascend, fewer than two units.

    Cost: 4,000 isotonic regressions of K values: about 0.1 s.

    >>> curve = [[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]]
    >>> found = equivalent_random_size(
    ...     [100, 200, 400], curve, [20.0, 20.0], 100, np.random.default_rng(0)
    ... )
    >>> round(found.size, 6), round(found.factor, 6)
    (200.0, 2.0)
    """
    numbers, rows, values = (np.asarray(array, np.float64) for array in (sizes, curve, arm))
    if rows.shape != (len(values), len(numbers)) or len(values) < 2:
        raise ValueError(
            f"curve must have one row per unit of the arm (two or more) and one column per size; "
            f"got {rows.shape} for {len(values)} units and {len(numbers)} sizes."
        )
    if not (np.diff(numbers) > 0).all() or numbers[0] < 1:
        raise ValueError(f"sizes must ascend from 1 or more; got {numbers.tolist()}.")
    size = _size_at(numbers, rows.mean(axis=0), float(values.mean()))
    found = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        chosen = rng.integers(len(values), size=len(values))
        found[number] = _size_at(numbers, rows[chosen].mean(axis=0), float(values[chosen].mean()))
    # Order statistics: infinite sizes must not be averaged with finite ones.
    low = float(np.quantile(found, LOWER, method="lower"))
    high = float(np.quantile(found, UPPER, method="higher"))
    return EquivalentSize(size, low, high, size / arm_size)


def _size_at(sizes: DoubleArray, means: DoubleArray, target: float) -> float:
    rising = isotonic_regression(means).x
    if target > rising[-1]:
        return float("inf")
    place = int(np.searchsorted(rising, target, side="left"))
    if place == 0:
        return float(sizes[0])
    below, above = rising[place - 1], rising[place]
    share = (target - below) / (above - below)
    return float(np.exp((1 - share) * np.log(sizes[place - 1]) + share * np.log(sizes[place])))


def _gains(
    arm: ArrayLike, random: ArrayLike, balanced: ArrayLike
) -> tuple[DoubleArray, DoubleArray]:
    values, base, best = (np.asarray(array, np.float64) for array in (arm, random, balanced))
    if not values.shape == base.shape == best.shape or values.ndim != 1 or len(values) < 2:
        raise ValueError(
            f"arm, random and balanced must have the same two or more units; got shapes "
            f"{values.shape}, {base.shape} and {best.shape}."
        )
    return values - base, best - base


def _fieller(gain: DoubleArray, gap: DoubleArray) -> tuple[float, float]:
    count = len(gain)
    covariance = np.cov(gain, gap, ddof=1) / count
    t_squared = float(stats.t.ppf(UPPER, count - 1)) ** 2
    # The interval holds the shares s with (gain - s gap)^2 <= t^2 var(gain - s gap).
    a = gap.mean() ** 2 - t_squared * covariance[1, 1]
    b = gain.mean() * gap.mean() - t_squared * covariance[0, 1]
    c = gain.mean() ** 2 - t_squared * covariance[0, 0]
    if a <= 0:  # the gap itself is not told from 0
        return float("-inf"), float("inf")
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return float((b - root) / a), float((b + root) / a)


def _bootstrap_ratio(
    gain: DoubleArray, gap: DoubleArray, rng: np.random.Generator
) -> tuple[float, float]:
    rows = rng.integers(len(gain), size=(RESAMPLES, len(gain)))
    gains, gaps = gain[rows].mean(axis=1), gap[rows].mean(axis=1)
    if not ((gaps > 0).all() or (gaps < 0).all()):
        return float("-inf"), float("inf")
    low, high = np.quantile(gains / gaps, [LOWER, UPPER])
    return float(low), float(high)
