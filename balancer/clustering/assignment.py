"""Assign rows to their nearest centroid. FAISS proposes, the canonical distance decides.

FAISS computes |x|^2 - 2 x.c + |c|^2 in float32, whose last bits depend on the batch, the threads
and the build. Its result is used only where the runner-up is farther by more than twice the error
that arithmetic can make; the other rows are compared with every centroid canonically. So the labels
are those of the canonical distance for any batch and machine.
"""

from __future__ import annotations

import numpy as np

from balancer.distances import nearest_rows, paired_distances
from balancer.errors import ConfigError
from balancer.types import FloatArray, IntArray

ROUNDING = float(np.finfo(np.float32).eps)
"""Twice the unit roundoff of float32: the bound below holds with a factor 2 to spare."""

FEW_CENTROIDS = 4
"""Below this many centroids the plain scan is as fast as a matrix product."""


def assign(points: FloatArray, centroids: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest centroid by (canonical distance, centroid number).

    Args:
        points: (N, D) float32, C-contiguous, finite.
        centroids: (K, D) float32, K >= 1.

    Returns:
        (N,) int64 centroid numbers and (N,) float32 canonical squared distances.

    Cost: one FAISS search (N * K * D multiply-adds), 16 bytes per row; plus K * D for each
    ambiguous row.

    >>> assign(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1].copy())[0]
    array([1, 0])
    """
    if len(centroids) < FEW_CENTROIDS or len(points) == 0:
        return nearest_rows(points, centroids)
    approximate, proposed = _search(points, centroids)
    labels = np.ascontiguousarray(proposed[:, 0])
    squared = paired_distances(points, centroids, np.maximum(labels, 0))
    # Rounding error of the expanded form: (D + 4) roundings of terms of size (|x| + |c|)^2.
    norms = np.sqrt(np.einsum("ij,ij->i", points, points))
    largest = float(np.sqrt(np.einsum("ij,ij->i", centroids, centroids)).max())
    error = (points.shape[1] + 4) * ROUNDING * (norms + largest) ** 2
    ambiguous = ~(approximate[:, 1] - approximate[:, 0] > 2 * error) | (labels < 0)
    if ambiguous.any():
        labels[ambiguous], squared[ambiguous] = nearest_rows(
            np.ascontiguousarray(points[ambiguous]), centroids
        )
    return labels, squared


def _search(points: FloatArray, centroids: FloatArray) -> tuple[FloatArray, IntArray]:
    try:
        import faiss
    except ImportError as error:  # pragma: no cover - the development install has FAISS
        raise ConfigError(
            "Clustering needs FAISS, which is not installed. "
            'Install one of its builds: pip install "balancer[cpu]" or "balancer[gpu]".'
        ) from error
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(centroids))
    return index.search(points, 2)
