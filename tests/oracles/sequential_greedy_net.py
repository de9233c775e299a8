"""The greedy net as one says it, tile after tile."""

from __future__ import annotations

import numpy as np

from balancer.types import FloatArray, IntArray


def sequential_greedy_net(
    points: FloatArray, order: IntArray, limit: float
) -> tuple[list[int], dict[int, int]]:
    """Return the kept rows, and for each dropped row the kept row for which it was dropped."""
    kept: list[int] = []
    dropped: dict[int, int] = {}
    for row in order.tolist():
        near = [k for k in kept if _squared(points[k], points[row]) <= limit]
        if near:
            dropped[row] = near[0]
        else:
            kept.append(row)
    return kept, dropped


def _squared(one: FloatArray, other: FloatArray) -> np.float32:
    difference = one.astype(np.float64) - other.astype(np.float64)
    return np.float32((difference**2).sum())
