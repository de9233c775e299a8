"""Shares of many cells that meet given sums along several axes at once, within the cells' limits.

Iterative proportional fitting (Deming and Stephan 1940) with upper limits: of all x with the
given sums and 0 <= x <= limit, the fitted one minimises the relative entropy to a prior. It has the
form x = min(limit, prior * product of one factor per axis value), and each step solves one axis
exactly, which is block coordinate ascent of the dual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.types import DoubleArray, IntArray

SWEEPS = 300
CLOSE = 1e-7
LARGEST = 1e60
"""Factor of a value that must have all its cells; three of them multiply within float64."""


@dataclass(frozen=True, slots=True)
class Margin:
    """The sums wanted along one axis: (S,) int64 value of each cell, (V,) int64 sum of each."""

    codes: IntArray
    targets: IntArray

    def sums(self, shares: DoubleArray | IntArray) -> DoubleArray:
        """Return the (V,) sums that the cells have."""
        found = np.bincount(self.codes, shares, minlength=len(self.targets))
        return found.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Fitted:
    """(S,) float64 shares, and the greatest difference between a sum and its target."""

    shares: DoubleArray
    error: float


def fit_margins(prior: DoubleArray, limits: IntArray, margins: Sequence[Margin]) -> Fitted:
    """Fit shares of cells to the sums of all axes.

    Args:
        prior: (S,) > 0; shares are as near to it as the sums allow.
        limits: (S,) int64 greatest share of each cell.
        margins: the axes; their targets add up to the same total.

    Returns:
        The shares after convergence or `SWEEPS` sweeps; where the sums cannot all be met, those of
        the last axis are.

    Cost: O(S) per axis and sweep; usually 5 to 50 sweeps.

    >>> rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> margins = [Margin(rows, np.array([6, 6])), Margin(columns, np.array([8, 4]))]
    >>> fit_margins(np.ones(4), np.full(4, 9), margins).shares.round(3).tolist()
    [4.0, 2.0, 4.0, 2.0]
    """
    top = limits.astype(np.float64)
    factors = [np.ones(len(margin.targets)) for margin in margins]
    shares = np.minimum(top, prior)
    error = np.inf
    for _ in range(SWEEPS):
        for place, margin in enumerate(margins):
            free = prior.copy()
            for other, factor in enumerate(factors):
                if other != place:
                    free *= factor[margins[other].codes]
            factors[place] = _scale(free, top, margin)
            shares = np.minimum(top, free * factors[place][margin.codes])
        before = error
        error = max(float(np.abs(m.sums(shares) - m.targets).max(initial=0.0)) for m in margins)
        if error < CLOSE or abs(before - error) < CLOSE * 1e-3:
            break
    return Fitted(shares, error)


def _scale(free: DoubleArray, top: DoubleArray, margin: Margin) -> DoubleArray:
    """Return the factor of each value with which its cells, cut at their limits, meet its sum.

    Cells that reach their limit leave the rest to the others; the factor only grows, so each cell
    changes once.
    """
    targets = margin.targets.astype(np.float64)
    full = np.zeros(len(free), np.bool_)
    while True:
        rest = targets - margin.sums(np.where(full, top, 0.0))
        open_ = margin.sums(np.where(full, 0.0, free))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(open_ > 0, rest / open_, LARGEST)
        factor = np.where(targets > 0, np.clip(factor, 0.0, LARGEST), 0.0)
        reached = ~full & (free * factor[margin.codes] >= top)
        if not reached.any():
            return factor
        full |= reached
