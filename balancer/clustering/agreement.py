"""How far two partitions of the same rows agree."""

from __future__ import annotations

import numpy as np

from balancer.types import DoubleArray, IntArray


def adjusted_rand_index(one: IntArray, other: IntArray) -> float:
    """Return the adjusted Rand index (Hubert & Arabie 1985, eq. 5): 1 when equal, near 0 by chance.

    Args:
        one: (N,) int64 labels >= 0.
        other: (N,) int64 labels >= 0.

    Returns:
        At most 1. Two partitions that both put all rows together (or all apart) agree: 1.

    Raises:
        ValueError: the shapes differ, or there are fewer than two rows.

    Cost: O(N + K1 K2).

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 3, 3]))
    1.0
    """
    if one.shape != other.shape or one.ndim != 1 or len(one) < 2:
        raise ValueError(
            f"Both labellings must be (N,) arrays of the same N >= 2 rows; got {one.shape} and "
            f"{other.shape}."
        )
    width = int(other.max()) + 1
    table = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width)
    counts = table.reshape(-1, width).astype(np.float64)
    together = _pairs(counts)
    in_one, in_other = _pairs(counts.sum(axis=1)), _pairs(counts.sum(axis=0))
    expected = in_one * in_other / _pairs(counts.sum(keepdims=True))
    largest = (in_one + in_other) / 2
    return 1.0 if largest == expected else float((together - expected) / (largest - expected))


def _pairs(counts: DoubleArray) -> float:
    return float((counts * (counts - 1)).sum() / 2)
