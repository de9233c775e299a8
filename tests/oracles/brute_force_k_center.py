"""The k-center optimum by trying every choice, and the radius of one choice, written plainly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from balancer.types import FloatArray


def trimmed_radius(points: FloatArray, centers: Sequence[int], num_outliers: int = 0) -> float:
    """Return the covering radius of rows `centers`, the `num_outliers` farthest rows left out."""
    distances = sorted(
        min(float(np.linalg.norm(row - points[c].astype(np.float64))) for c in centers)
        for row in points.astype(np.float64)
    )
    return distances[len(distances) - 1 - num_outliers]


def optimum(
    points: FloatArray, num_centers: int, *, included: Sequence[int] = (), num_outliers: int = 0
) -> float:
    """Return the least radius of `num_centers` rows that contain the `included` ones."""
    others = [row for row in range(len(points)) if row not in included]
    return min(
        trimmed_radius(points, [*included, *free], num_outliers)
        for free in itertools.combinations(others, num_centers - len(included))
    )
