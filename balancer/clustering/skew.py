"""Clusters that are too large: found, split by k-means on a sample of their members, checked again.

K-means on imbalanced data leaves clusters many times the mean, which one worker must then hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from balancer.clustering.initialization import kmeans_plus_plus
from balancer.clustering.lloyd import (
    PartialSums,
    Rows,
    Scale,
    finalize_sums,
    greatest,
    local_sums,
    make_scale,
)
from balancer.clustering.members import local_members, merge_members
from balancer.seeding import child_generator, derive_seed
from balancer.types import FloatArray, IdArray, IntArray

SAMPLE_PER_PART = 64
"""Members that a cluster is split by, for each part it is split into."""
PART_ITERATIONS = 10
ROUNDS = 8


def skew_of(sizes: IntArray) -> float:
    """Return the largest cluster's size over the mean.

    >>> skew_of(np.array([6, 2, 1]))
    2.0
    """
    return float(sizes.max() / max(1e-300, float(sizes.mean())))


def split_oversized(
    rows: Rows,
    centroids: FloatArray,
    total: PartialSums,
    *,
    scale: Scale,
    limit: float,
    seed: int,
    say: Callable[[str], None],
) -> tuple[FloatArray, PartialSums]:
    """Split clusters of more than `limit` rows until there are none, or no split helps.

    A cluster of n rows is replaced by ceil(n / limit) centroids: k-means++ and Lloyd iterations on
    the `SAMPLE_PER_PART` members of lowest hash per part. K grows. Copies of one row cannot be
    split.

    Args:
        rows: where the rows are.
        centroids: (K, D) float32.
        total: their sums.
        scale: of the sums.
        limit: most rows of a cluster.
        seed: of this clustering.
        say: told what was split and what could not be.

    Returns:
        The centroids and their sums.

    Cost: two passes over the rows per round, at most `ROUNDS` rounds.
    """
    stuck: set[bytes] = set()
    for turn in range(ROUNDS):
        over = np.flatnonzero(total.counts > limit)
        over = np.array([k for k in over if centroids[k].tobytes() not in stuck], dtype=np.int64)
        if len(over) == 0:
            break
        counts = np.zeros(len(centroids), np.int64)
        parts = np.ceil(total.counts[over] / limit).astype(np.int64)
        counts[over] = parts * SAMPLE_PER_PART
        turn_seed = derive_seed(seed, "split", turn)
        members = merge_members(
            rows.map_shards(local_members, centroids, counts, "random", turn_seed), counts
        )
        replaced = [np.delete(centroids, over, axis=0)]
        for cluster, num_parts in zip(over.tolist(), parts.tolist(), strict=True):
            mine = members.cluster == cluster
            found = _split(members.points[mine], members.ids[mine], num_parts, turn_seed)
            if len(found) == 1:
                stuck.add(centroids[cluster].tobytes())
                found = centroids[cluster : cluster + 1]
            replaced.append(found)
        centroids = np.concatenate(replaced)
        total = rows.sums(centroids, scale)
        say(f"k-means: {len(over)} clusters above {math.floor(limit)} rows were split; K is now "
            f"{len(centroids)}, the largest has {int(total.counts.max())}")  # fmt: skip
    left = int((total.counts > limit).sum())
    if left:
        say(f"k-means: {left} clusters stay above {math.floor(limit)} rows: their rows are alike, "
            f"or {ROUNDS} rounds of splitting were not enough")  # fmt: skip
    return centroids, total


def _split(points: FloatArray, ids: IdArray, num_parts: int, seed: int) -> FloatArray:
    """Return centroids of a cluster's sampled members; one when they are all alike."""
    num_parts = min(num_parts, len(np.unique(points, axis=0)))
    if num_parts == 1:
        return points[:1]
    centroids = kmeans_plus_plus(points, num_parts, child_generator(seed, "part"))
    scale = make_scale(len(points), points.shape[1], greatest(points))
    for _ in range(PART_ITERATIONS):
        centroids = finalize_sums(local_sums(points, ids, centroids, scale), centroids, scale)
    return centroids
