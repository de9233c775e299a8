"""What two augmented views of a tile have in common: does the embedding see the tile or noise?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.clustering.agreement import adjusted_rand_index
from balancer.clustering.assignment import assign
from balancer.embedding.structure import NEIGHBORS, neighbors
from balancer.types import DoubleArray, FloatArray

LIDAR_RIDGE = 1e-4
"""delta of Thilak et al. 2023, appendix: keeps the scatter within classes invertible."""


@dataclass(frozen=True, slots=True)
class ViewAgreement:
    """The measures of two views of N tiles, (N, D) unit rows each.

    Attributes:
        retrieval_at_10: share of first views whose own second view is among the 10 nearest.
        neighbor_agreement: share of the 10 nearest other tiles that both views of a tile agree on.
        cluster_agreement: adjusted Rand index of the clusters that the two views fall into.
        lidar: rank of the linear discriminant between tiles (Thilak et al. 2023, eq. 1 to 3).
    """

    retrieval_at_10: float
    neighbor_agreement: float
    cluster_agreement: float
    lidar: float


def view_agreement(
    first: DoubleArray, second: DoubleArray, plain: DoubleArray, centroids: FloatArray
) -> ViewAgreement:
    """Measure two views and the plain form of the same tiles; all (N, D) unit rows, N >= 2.

    Cost: O(N^2 D + D^3) time, 16 N^2 bytes.

    >>> rows = np.eye(12)
    >>> found = view_agreement(rows, rows, rows, rows[:3].astype(np.float32))
    >>> found.retrieval_at_10, found.neighbor_agreement, found.cluster_agreement
    (1.0, 1.0, 1.0)
    """
    similarity = first @ second.T
    own = np.diagonal(similarity)[:, None]
    # Equal similarities count against the own view, so that a collapsed embedding retrieves none.
    better = np.count_nonzero(similarity >= own, axis=1) - 1
    return ViewAgreement(
        retrieval_at_10=float(np.mean(better < NEIGHBORS)),
        neighbor_agreement=_shared_neighbors(first, second, plain),
        cluster_agreement=adjusted_rand_index(
            assign(first.astype(np.float32), centroids)[0],
            assign(second.astype(np.float32), centroids)[0],
        ),
        lidar=lidar(first, second),
    )


def lidar(first: DoubleArray, second: DoubleArray) -> float:
    """Return LiDAR of two views: between 1 and D directions that tell tiles apart.

    Each tile is a class with two samples. The eigenvalues of the scatter between the classes,
    whitened by the scatter within them, become the exponential of their entropy.

    Args:
        first: (N, D) rows.
        second: (N, D) rows.

    >>> rows = np.vstack([np.eye(4), -np.eye(4)])
    >>> round(lidar(rows, rows), 6)  # four directions, all alike
    4.0
    """
    means = (first + second) / 2
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / max(1, len(means) - 1)
    half = (first - second) / 2
    # Two samples lie at +-half around their mean: their scatter is 2 half half^T over 2 - 1.
    within = 2 * half.T @ half / len(means) + LIDAR_RIDGE * np.eye(means.shape[1])
    values, vectors = np.linalg.eigh(within)
    whitener = (vectors / np.sqrt(values)) @ vectors.T
    found = np.maximum(np.linalg.eigvalsh(whitener @ between @ whitener), 0.0)
    total = float(found.sum())
    if total <= np.finfo(np.float64).eps:
        return 1.0
    shares = found[found > np.finfo(np.float64).eps * total] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _shared_neighbors(first: DoubleArray, second: DoubleArray, plain: DoubleArray) -> float:
    one, two = neighbors(plain, first)[0], neighbors(plain, second)[0]
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(one, two, strict=True)]
    return float(np.mean(shared) / one.shape[1])
