"""How many rows each cluster gives: water-filling.

With cluster sizes s_j, S(n) = sum_j min(n, s_j). The level n* is the greatest n with
S(n) <= budget; cluster j gives min(n*, s_j), and the rest goes as +1 to clusters that still have
rows, in an order given by the seed (Vo et al. 2024, arXiv 2405.15613, section 3.3, solved exactly).
"""

from __future__ import annotations

import numpy as np

from balancer.seeding import derive_seed
from balancer.types import IntArray, Quota


def water_filling(
    sizes: IntArray, budget: int, *, seed: int = 0, floors: IntArray | None = None
) -> Quota:
    """Share `budget` over clusters as equally as their sizes and floors allow.

    Args:
        sizes: (K,) rows in each cluster, >= 0.
        budget: rows wanted in total.
        seed: orders the clusters for the remainder.
        floors: (K,) rows that each cluster gives at least, such as those that must be included;
            cluster j then gives max(floor, min(n, s_j)) at the level n. None: no floors.

    Returns:
        Counts with `counts <= sizes`, summing to the budget, or to all rows with the shortfall.

    Raises:
        ValueError: a negative size or budget; floors above the sizes, or above the budget together.

    Cost: O(K log K).

    >>> water_filling(np.array([100, 3, 50]), 23).counts
    array([10,  3, 10])
    >>> water_filling(np.array([100, 3, 50]), 23, floors=np.array([0, 2, 15])).counts
    array([ 5,  3, 15])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    if budget < 0 or (len(sizes) and sizes.min() < 0):
        raise ValueError(f"sizes and budget must not be negative; got {sizes} and {budget}.")
    least = np.zeros_like(sizes) if floors is None else np.asarray(floors, dtype=np.int64)
    if (least < 0).any() or (least > sizes).any() or least.sum() > budget:
        raise ValueError(
            f"floors must lie between 0 and the sizes, and not exceed the budget together; got "
            f"{least} for {sizes} and {budget}."
        )
    total = int(sizes.sum())
    if total <= budget:
        return Quota(sizes.copy(), budget - total)
    low, high = 0, int(sizes.max())  # S(low) <= budget < S(high)
    while high - low > 1:
        middle = (low + high) // 2
        if int(np.maximum(least, np.minimum(middle, sizes)).sum()) <= budget:
            low = middle
        else:
            high = middle
    counts = np.maximum(least, np.minimum(low, sizes))
    remainder = budget - int(counts.sum())
    uncapped = np.flatnonzero((sizes > low) & (least <= low))
    order = sorted(uncapped.tolist(), key=lambda cluster: derive_seed(seed, "quota", cluster))
    counts[order[:remainder]] += 1
    return Quota(counts, 0)
