"""TwoNN: the intrinsic dimension from each row's two nearest neighbours (Facco et al. 2017).

Where the density is about constant up to the second neighbour, the ratio mu = r2 / r1 of the
distances to the two nearest neighbours has the distribution F(mu) = 1 - mu^-d, whatever the
density. So the points (log mu, -log(1 - F)) lie on a line through the origin of slope d.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.types import DoubleArray, FloatArray

SAMPLE_ROWS = 5000
"""Rows that callers should sample: the standard error of d is about d / sqrt(rows), 1.4 %."""

LEAST_ROWS = 3
"""A row, and two neighbours of it."""


def two_nn(points: FloatArray, *, discard: float = 0.1) -> float:
    """Estimate the intrinsic dimension of a sample (Facco et al., Sci. Rep. 7, 12140, 2017).

    The empirical F of the i-th smallest of N ratios is i / N. The largest ratios, which lie where
    the density changes most, are discarded before the line is fitted by least squares, as in the
    paper's "Methods". One deviation: equal rows count once, because a neighbour at distance zero
    has no ratio; the paper assumes that there are none.

    Args:
        points: (N, D) numbers, finite; a uniform sample of the rows, see `SAMPLE_ROWS`.
        discard: share of the ratios, the largest ones, to leave out; in [0, 1).

    Returns:
        The dimension, > 0; infinity when all rows have both neighbours at the same distance.

    Raises:
        ValueError: fewer than 3 distinct rows, or a share outside [0, 1).

    Cost: O(N^2 D) time on all cores, about 1 s for 5,000 x 128; 16 N bytes.

    >>> line = np.random.default_rng(0).random((1000, 1)) @ np.ones((1, 9))
    >>> round(two_nn(line))
    1
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard must lie in [0, 1); got {discard}. The paper uses 0.1.")
    points = np.ascontiguousarray(points, dtype=np.float32)
    rows = np.ascontiguousarray(np.unique(points, axis=0))
    nearest = np.empty((len(rows), 2), dtype=np.float64)
    if len(rows) >= LEAST_ROWS:
        _two_nearest(rows, nearest)
        # Two rows may differ by less than the root of the smallest float32: no ratio either.
        nearest = nearest[nearest[:, 0] > 0]
    if len(nearest) < LEAST_ROWS:
        raise ValueError(
            f"The intrinsic dimension needs at least {LEAST_ROWS} distinct rows; got "
            f"{len(nearest)} among {len(points)}. Give more rows."
        )
    log_mu = np.sort(0.5 * np.log(nearest[:, 1] / nearest[:, 0]))
    count = len(log_mu)
    # At F = 1 the line has no finite point, so the largest ratio never takes part.
    kept = min(max(1, math.floor((1 - discard) * count)), count - 1)
    log_mu = log_mu[:kept]
    survival = -np.log1p(-np.arange(1, kept + 1) / count)
    spread = float(log_mu @ log_mu)
    return float(log_mu @ survival) / spread if spread > 0 else math.inf


@numba.njit(cache=True, parallel=True)
def _two_nearest(rows: FloatArray, nearest: DoubleArray) -> None:
    """Write each row's two smallest squared distances to the other rows."""
    for i in numba.prange(rows.shape[0]):
        first = second = np.float32(np.inf)
        for j in range(rows.shape[0]):
            if j != i:
                distance = squared_distance(rows[i], rows[j])
                if distance < first:
                    second = first
                    first = distance
                elif distance < second:
                    second = distance
        nearest[i, 0] = first
        nearest[i, 1] = second
