"""The shape of an embedding, from the rows alone: is there structure that a selection can use?

Each measure is a label-free candidate for telling whether diverse selection will beat random;
`balancer.comparison.health_study` says which do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.intrinsic_dimension import two_nn
from balancer.clustering.kmeans import fit
from balancer.config import ClusteringConfig
from balancer.selection.pool import ArrayPool
from balancer.types import DoubleArray, FloatArray, IntArray

NEIGHBORS = 10
"""k of the neighbour measures; Radovanovic et al. 2010 use 10 too."""
NUM_CLUSTERS = 32
"""K of the cluster measures: fixed, so that runs compare. At most a quarter of the rows."""
LEADING = 8
"""Directions whose share of the variance is reported."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The measures of (N, D) unit rows.

    Attributes:
        intrinsic_dimension: TwoNN (Facco et al. 2017); None with too few distinct rows.
        hubness: skewness of how often a row is among the 10 nearest of others (Radovanovic et al.
            2010, section 4); 0 when all are so equally often.
        outlier_ratio: distance to the 10th neighbour, 99th percentile over median: how far the
            odd rows lie out, which farthest-point picks first.
        leading_variance: share of the variance along the 8 leading directions.
        spectral_decay: alpha of lambda_j ~ j^-alpha (alpha-ReQ, Agrawal et al. 2022); None with
            fewer than two directions.
        cluster_variance: share of the variance that 32 k-means clusters explain.
    """

    intrinsic_dimension: float | None
    hubness: float
    outlier_ratio: float
    leading_variance: float
    spectral_decay: float | None
    cluster_variance: float


def structure_of(rows: DoubleArray, centroids: FloatArray) -> Structure:
    """Measure (N, D) unit rows, N >= 2; `centroids` come from `health_centroids`.

    Cost: O(N^2 D + N D^2) time, 16 N^2 bytes.

    >>> rows = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, 20)
    >>> rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    >>> found = structure_of(rows, health_centroids(rows))
    >>> round(found.intrinsic_dimension), found.leading_variance  # a sphere in 20 dimensions
    (2, 1.0)
    """
    order, squared = neighbors(rows)
    spectrum = _spectrum(rows)
    total = float(spectrum.sum())
    _, to_centroids = assign(rows.astype(np.float32), centroids)
    within = float(to_centroids.astype(np.float64).mean())
    return Structure(
        intrinsic_dimension=_dimension(rows),
        hubness=hubness(order, len(rows)),
        outlier_ratio=_outlier_ratio(squared),
        leading_variance=round(float(spectrum[:LEADING].sum()) / total, 12) if total > 0 else 1.0,
        spectral_decay=spectral_decay(spectrum),
        cluster_variance=max(0.0, 1 - within / total) if total > 0 else 0.0,
    )


def health_centroids(rows: DoubleArray) -> FloatArray:
    """Return the (K, D) float32 centroids of the cluster measures; no seed is left to choose."""
    count = min(NUM_CLUSTERS, max(1, len(rows) // 4))
    ids = np.array([f"{row:012d}" for row in range(len(rows))])
    pool = ArrayPool(np.ascontiguousarray(rows, dtype=np.float32), ids)
    return fit(pool, count, config=ClusteringConfig(), seed=0).centroids


def neighbors(
    rows: DoubleArray, queries: DoubleArray | None = None
) -> tuple[IntArray, DoubleArray]:
    """Return the nearest `NEIGHBORS` rows (fewer when there are fewer), nearest first.

    Args:
        rows: (N, D) unit rows.
        queries: (N, D) unit rows, query i about row i; the rows themselves when absent. Row i is
            never among the neighbours of query i.

    Returns:
        (N, k) int64 rows and (N, k) squared distances.
    """
    squared = np.maximum(2.0 - 2.0 * ((rows if queries is None else queries) @ rows.T), 0.0)
    np.fill_diagonal(squared, np.inf)
    count = min(NEIGHBORS, len(rows) - 1)
    order = np.argsort(squared, axis=1, kind="stable")[:, :count]
    return order.astype(np.int64), np.take_along_axis(squared, order, axis=1)


def hubness(order: IntArray, num_rows: int) -> float:
    """Return the skewness of the k-occurrences of (N, k) neighbour lists; 0 when they are equal.

    >>> hubness(np.array([[1], [2], [0]]), 3), round(hubness(np.array([[1], [0], [0], [0]]), 4), 2)
    (0.0, 0.82)
    """
    occurrences = np.bincount(order.reshape(-1), minlength=num_rows).astype(np.float64)
    centred = occurrences - occurrences.mean()
    deviation = math.sqrt(float((centred**2).mean()))
    return float((centred**3).mean()) / deviation**3 if deviation > 0 else 0.0


def spectral_decay(spectrum: DoubleArray) -> float | None:
    """Return alpha of a spectrum like j^-alpha, by least squares on logarithms (alpha-ReQ).

    Only the first half of the eigenvalues takes part, and those above rounding, because the tail
    of a sample's spectrum is noise.

    Args:
        spectrum: (D,) eigenvalues of the covariance, descending, >= 0.

    >>> round(spectral_decay(np.arange(1.0, 101.0) ** -1.5), 6)
    1.5
    """
    half = spectrum[: max(2, len(spectrum) // 2)]
    used = half[half > np.finfo(np.float64).eps * half[0]]
    if len(used) < 2:
        return None
    x, y = np.log(np.arange(1, len(used) + 1)), np.log(used)
    x, y = x - x.mean(), y - y.mean()
    return float(-(x @ y) / (x @ x))


def _spectrum(rows: DoubleArray) -> DoubleArray:
    centred = rows - rows.mean(axis=0)
    spectrum: DoubleArray = np.linalg.svd(centred, compute_uv=False) ** 2 / len(rows)
    spectrum[spectrum < np.finfo(np.float64).eps] = 0.0
    return spectrum


def _dimension(rows: DoubleArray) -> float | None:
    try:
        found = two_nn(rows.astype(np.float32))
    except ValueError:  # too few distinct rows, as in a collapsed embedding
        return None
    return found if math.isfinite(found) else None


def _outlier_ratio(squared: DoubleArray) -> float:
    reach = np.sqrt(squared[:, -1])
    middle = float(np.median(reach))
    return float(np.quantile(reach, 0.99)) / middle if middle > 0 else 1.0
