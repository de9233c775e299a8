"""First centroids: k-means++ on a seeded sample of the rows.

The sample is the rows with the lowest id hashes, so it does not depend on the sharding. On it,
centroids are drawn one by one with probability proportional to the squared distance to those
drawn before (Arthur and Vassilvitskii 2007).
"""

from __future__ import annotations

import numpy as np

from balancer.distances import update_nearest
from balancer.types import FloatArray


def kmeans_plus_plus(sample: FloatArray, num_clusters: int, rng: np.random.Generator) -> FloatArray:
    """Draw `num_clusters` rows of `sample` as centroids.

    Args:
        sample: (M, D) float32, in an order that does not depend on the sharding.
        num_clusters: K, at most M.
        rng: decides the draws.

    Returns:
        (K, D) float32. When the sample has fewer than K distinct rows, rows repeat.

    Raises:
        ValueError: K exceeds M.

    Cost: O(M K D) time, O(M) memory.
    """
    if not 1 <= num_clusters <= len(sample):
        raise ValueError(
            f"num_clusters must lie between 1 and the {len(sample)} sampled rows; "
            f"got {num_clusters}."
        )
    sample = np.ascontiguousarray(sample, dtype=np.float32)
    chosen = np.empty(num_clusters, dtype=np.int64)
    chosen[0] = rng.integers(len(sample))
    nearest = np.full(len(sample), np.inf, dtype=np.float32)
    for k in range(1, num_clusters):
        update_nearest(sample, sample[chosen[k - 1]], nearest)
        cumulative = np.cumsum(nearest, dtype=np.float64)
        draw = rng.random() * cumulative[-1]
        chosen[k] = min(np.searchsorted(cumulative, draw, side="right"), len(sample) - 1)
    return sample[chosen]
