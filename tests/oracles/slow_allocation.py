"""Quotas one tile at a time, and integer quotas over two axes by trying everything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from balancer.types import DoubleArray, IntArray


def slow_shares(
    sizes: IntArray, budget: int, alpha: float, low: IntArray, high: IntArray
) -> DoubleArray:
    """Return the real-valued shares clip(lambda s^alpha, low, high) by walking the breakpoints."""
    weights = sizes.astype(np.float64) ** alpha
    if high.sum() <= budget:
        return high.astype(np.float64)
    levels = sorted({x / w for x, w in zip([*low, *high], [*weights, *weights], strict=True) if w})
    below = 0.0
    for level in levels:
        if np.clip(level * weights, low, high).sum() > budget:
            break
        below = level
    fixed = np.clip(below * weights, low, high)
    free = (low < high) & (below * weights >= low) & (below * weights < high)
    slope = weights[free].sum()
    rise = (budget - fixed.sum()) / slope if slope else 0.0
    return np.clip((below + rise) * weights, low, high)


def slow_water_filling(sizes: IntArray, budget: int) -> IntArray:
    """Give one tile after the other to a cluster that has given least and still has one."""
    counts = np.zeros_like(sizes)
    for _ in range(min(budget, int(sizes.sum()))):
        open_ = np.flatnonzero(counts < sizes)
        counts[open_[counts[open_].argmin()]] += 1
    return counts


def least_miss(limits: IntArray, codes: Sequence[IntArray], targets: Sequence[IntArray]) -> int:
    """Return the least sum of differences to the targets that whole numbers within limits have."""
    total = targets[0].sum()
    best = 10**9
    for counts in product(*(range(limit + 1) for limit in limits)):
        if sum(counts) != total:
            continue
        miss = sum(
            int(np.abs(np.bincount(code, counts, minlength=len(target)) - target).sum())
            for code, target in zip(codes, targets, strict=True)
        )
        best = min(best, miss)
    return best
