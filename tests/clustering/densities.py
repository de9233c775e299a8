"""Rows of a known density, and the exponent with which centroids follow it."""

from __future__ import annotations

import numpy as np

from balancer.types import FloatArray

REACH = 2.5
"""The density is a normal one, cut off at this many standard deviations in every coordinate."""


def truncated_normal(count: int, dim: int, *, seed: int) -> FloatArray:
    """Return (count, dim) rows of a standard normal density within `REACH`."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim))
    while (outside := np.abs(rows) > REACH).any():
        rows[outside] = rng.standard_normal(int(outside.sum()))
    points: FloatArray = rows.astype(np.float32)
    return points


def measured_exponent(centroids: FloatArray, neighbours: int = 4) -> float:
    """Return the slope of log(density of the centroids) over log(p).

    The density at a centroid is k / (volume up to its k-th neighbour), up to constants. Centroids
    nearer to the border than that neighbour are left out.
    """
    points = centroids.astype(np.float64)
    count, dim = points.shape
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    radius = np.sqrt(np.sort(squared, axis=1)[:, neighbours])
    inside = np.abs(points).max(axis=1) + radius < REACH
    log_p = -0.5 * (points[inside] ** 2).sum(axis=1)
    log_density = -dim * np.log(radius[inside])
    assert inside.sum() > count / 4
    return float(np.polyfit(log_p, log_density, 1)[0])
