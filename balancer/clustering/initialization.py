"""First centroids from a seeded sample of the rows: k-means++, farthest-point, or at random.

The sample is the rows with the lowest id hashes, so it does not depend on the sharding. For
k-means|| over all rows see `balancer.clustering.parallel_seeding`.
"""

from __future__ import annotations

import numba
import numpy as np

from balancer.distances import squared_distance, update_nearest
from balancer.types import DoubleArray, FloatArray, IntArray

CHUNK_ROWS = 1024
"""Rows whose sum is searched at a time; part of the result, as sums are rounded by chunk."""

MARGIN = np.float32(4 * (1 + 1e-5))
"""Four, with room for the roundings of the distances compared."""


def kmeans_plus_plus(sample: FloatArray, num_clusters: int, rng: np.random.Generator) -> FloatArray:
    """Draw centroids with probability proportional to the squared distance to those before.

    Arthur and Vassilvitskii 2007, section 2.2. A row is not compared with a new centroid c when
    that is at least twice as far from the row's own centroid o as the row x is, because then
    d(x, c) >= d(o, c) - d(x, o) >= d(x, o) (Elkan 2003, lemma 1); the draws stay the same.

    Args:
        sample: (M, D) float32, in an order that does not depend on the sharding.
        num_clusters: K, at most M.
        rng: decides the draws.

    Returns:
        (K, D) float32. When the sample has fewer than K distinct rows, rows repeat.

    Raises:
        ValueError: K exceeds M.

    Cost: at most M K D and K^2 D / 2 multiply-adds, 12 M bytes.
    """
    sample = _checked(sample, num_clusters)
    chosen = np.empty(num_clusters, dtype=np.int64)
    chosen[0] = rng.integers(len(sample))
    _draw(sample, np.ones(len(sample), np.float32), rng.random(num_clusters), chosen)
    return sample[chosen]


def weighted_plus_plus(
    candidates: FloatArray, weights: FloatArray, num_clusters: int, rng: np.random.Generator
) -> FloatArray:
    """Draw centroids as `kmeans_plus_plus` does, each row counting `weights` times.

    Args:
        candidates: (M, D) float32.
        weights: (M,) float32, not negative, with at least one above zero.
        num_clusters: K, at most M.
        rng: decides the draws.

    Returns:
        (K, D) float32.

    Raises:
        ValueError: K exceeds M.
    """
    candidates = _checked(candidates, num_clusters)
    chosen = np.empty(num_clusters, dtype=np.int64)
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    chosen[0] = min(place, len(candidates) - 1)
    _draw(candidates, weights.astype(np.float32), rng.random(num_clusters), chosen)
    return candidates[chosen]


def farthest_point_seeds(
    sample: FloatArray, num_clusters: int, rng: np.random.Generator
) -> FloatArray:
    """Take, from a random first row on, the row farthest from those taken (Gonzalez 1985).

    Ties go to the row that comes first in the sample. Outliers are taken first, so this suits
    data without them.

    Args:
        sample: (M, D) float32, in an order that does not depend on the sharding.
        num_clusters: K, at most M.
        rng: decides the first row.

    Returns:
        (K, D) float32.

    Raises:
        ValueError: K exceeds M.

    Cost: M K D multiply-adds, 4 M bytes.

    >>> line = np.array([[0.0], [1.0], [9.0]], dtype=np.float32)
    >>> sorted(farthest_point_seeds(line, 2, np.random.default_rng(0))[:, 0].tolist())
    [0.0, 9.0]
    """
    sample = _checked(sample, num_clusters)
    chosen = np.empty(num_clusters, dtype=np.int64)
    chosen[0] = rng.integers(len(sample))
    nearest = np.full(len(sample), np.inf, dtype=np.float32)
    for k in range(1, num_clusters):
        update_nearest(sample, sample[chosen[k - 1]], nearest)
        chosen[k] = int(nearest.argmax())
    return sample[chosen]


def random_seeds(sample: FloatArray, num_clusters: int, rng: np.random.Generator) -> FloatArray:
    """Take K rows of the sample at random.

    Args:
        sample: (M, D) float32, in an order that does not depend on the sharding.
        num_clusters: K, at most M.
        rng: decides the rows.

    Returns:
        (K, D) float32.

    Raises:
        ValueError: K exceeds M.

    >>> random_seeds(np.eye(3, dtype=np.float32), 3, np.random.default_rng(0)).sum()
    np.float32(3.0)
    """
    sample = _checked(sample, num_clusters)
    return sample[rng.choice(len(sample), num_clusters, replace=False)]


SAMPLED_SEEDS = {
    "k-means++": kmeans_plus_plus,
    "farthest-point": farthest_point_seeds,
    "random": random_seeds,
}
"""Seedings that need only a sample, by their name in `clustering.init`."""


def _checked(sample: FloatArray, num_clusters: int) -> FloatArray:
    if not 1 <= num_clusters <= len(sample):
        raise ValueError(
            f"num_clusters must lie between 1 and the {len(sample)} sampled rows; "
            f"got {num_clusters}."
        )
    return np.ascontiguousarray(sample, dtype=np.float32)


@numba.njit(cache=True)
def _draw(sample: FloatArray, weights: FloatArray, uniforms: DoubleArray, chosen: IntArray) -> None:
    """Fill `chosen` from its second place on.

    By one thread: K barriers between threads cost more than they gain, above all where workers
    share the cores.
    """
    num_rows = sample.shape[0]
    nearest = np.full(num_rows, np.inf, np.float32)
    owner = np.zeros(num_rows, np.int64)
    apart = np.zeros(chosen.shape[0], np.float32)
    num_chunks = (num_rows + CHUNK_ROWS - 1) // CHUNK_ROWS
    totals = np.zeros(num_chunks, np.float64)
    for k in range(1, chosen.shape[0]):
        newest = sample[chosen[k - 1]]
        for j in range(k - 1):
            apart[j] = squared_distance(newest, sample[chosen[j]])
        for chunk in range(num_chunks):
            total = 0.0
            for i in range(chunk * CHUNK_ROWS, min((chunk + 1) * CHUNK_ROWS, num_rows)):
                if apart[owner[i]] < MARGIN * nearest[i] or k == 1:
                    distance = squared_distance(sample[i], newest)
                    if distance < nearest[i]:
                        nearest[i] = distance
                        owner[i] = k - 1
                total += np.float64(nearest[i]) * np.float64(weights[i])
            totals[chunk] = total
        remaining = uniforms[k] * totals.sum()
        chunk = 0
        while chunk < num_chunks - 1 and remaining >= totals[chunk]:
            remaining -= totals[chunk]
            chunk += 1
        i, last = chunk * CHUNK_ROWS, min((chunk + 1) * CHUNK_ROWS, num_rows) - 1
        while i < last:
            remaining -= np.float64(nearest[i]) * np.float64(weights[i])
            if remaining < 0:
                break
            i += 1
        chosen[k] = i
