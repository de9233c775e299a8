"""Covering radii at 100, 99 and 95 %: exact quantiles of the distance to the nearest pick.

A shard sends the distinct values of the upper 16 bits of its float32 distances with their counts
(local); counts add up (merge); the quantile's bucket is then resolved by a second pass over the
lower 16 bits. Non-negative floats order as their bits, so the result is the exact order statistic,
for any sharding, with replies of a few kilobytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.types import FloatArray

SHARES = (1.0, 0.99, 0.95)
"""Shares of the tiles that a covering radius is given for."""


def upper_counts(squared: FloatArray) -> Counter[int]:
    """Return how many squared distances share each upper half of their bits (local)."""
    return _counts(squared.view(np.uint32) >> 16)


def lower_counts(squared: FloatArray, upper: int) -> Counter[int]:
    """Return how many distances whose upper half is `upper` share each lower half (local)."""
    bits = squared.view(np.uint32)
    return _counts(bits[bits >> 16 == upper] & 0xFFFF)


def merge_counts(parts: Iterable[Counter[int]]) -> Counter[int]:
    """Add up the counts of several shards (merge)."""
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return total


def find_rank(counts: Counter[int], rank: int) -> tuple[int, int]:
    """Return the key that holds the `rank`-th smallest value (from 1), and the rank within it."""
    seen = 0
    for key in sorted(counts):
        if seen + counts[key] >= rank:
            return key, rank - seen
        seen += counts[key]
    raise ValueError(f"rank must not exceed the {seen} values counted; got {rank}.")


def rank_of(share: float, num_rows: int) -> int:
    """Return the rank (from 1) of the distance that `share` of the rows do not exceed.

    >>> rank_of(0.95, 200), rank_of(1.0, 7)
    (190, 7)
    """
    return max(1, int(np.ceil(share * num_rows)))


def radius_from_bits(upper: int, lower: int) -> float:
    """Return the distance whose squared float32 has these two halves."""
    bits = np.array([(upper << 16) | lower], dtype=np.uint32)
    return float(np.sqrt(bits.view(np.float32)[0].astype(np.float64)))


def covering_radii(squared: FloatArray) -> dict[str, float]:
    """Return the covering radii of one array of squared distances to the nearest pick.

    >>> covering_radii(np.array([0, 1, 4, 9], dtype=np.float32))["100"]
    3.0
    """
    squared = np.ascontiguousarray(squared, dtype=np.float32)
    radii = {}
    for share in SHARES:
        upper, rank = find_rank(upper_counts(squared), rank_of(share, len(squared)))
        lower, _ = find_rank(lower_counts(squared, upper), rank)
        radii[f"{share:.0%}".rstrip("%")] = radius_from_bits(upper, lower)
    return radii


def trimmed_radius(squared: FloatArray, num_outliers: int) -> float:
    """Return the covering radius of one array after its `num_outliers` farthest rows are left out.

    >>> trimmed_radius(np.array([0, 1, 4, 9], dtype=np.float32), 1)
    2.0
    """
    place = len(squared) - 1 - num_outliers
    return float(np.sqrt(np.partition(squared, place)[place].astype(np.float64)))


def _counts(keys: NDArray[np.integer[Any]]) -> Counter[int]:
    values, counts = np.unique(keys, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
