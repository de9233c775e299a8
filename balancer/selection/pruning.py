"""Dynamic pruning: which training tiles an encoder goes on with (Kerdreux et al. 2025).

"Efficient self-supervised learning for Earth observation via dynamic dataset curation", arXiv
2504.06962, alternates training with a pruning of the training set: the current encoder embeds the
tiles, they are clustered, and a share of them is kept until the next pruning, by where they lie in
their cluster. No other feature extractor is needed. Deviations: k-means is flat and sees every
tile, where the paper clusters a sample in levels, and each pruning starts from all training tiles.
"""

from __future__ import annotations

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import default_num_clusters, fit
from balancer.config import ClusteringConfig
from balancer.config_pruning import PruningRule
from balancer.distances import id_ranks
from balancer.seeding import derive_seed, hash_ids
from balancer.selection.pool import ArrayPool
from balancer.selection.quotas import water_filling
from balancer.types import FloatArray, IdArray, IntArray


def prune(
    points: FloatArray,
    ids: IdArray,
    num_kept: int,
    *,
    rule: PruningRule,
    clustering: ClusteringConfig,
    seed: int,
) -> IntArray:
    """Return the rows to go on training with, in ascending order.

    Args:
        points: (N, D) float32, finite: the training tiles as the current encoder sees them.
        ids: (N,) their unique tile ids.
        num_kept: rows to keep, from 1 to N.
        rule: `near` and `far` keep the same share of every cluster, the rows nearest to its
            centroid or farthest from it; `balanced` keeps equally many of every cluster by
            water-filling, at random inside.
        clustering: of the k-means; `num_clusters` from `num_kept` when absent.
        seed: of this pruning.

    Returns:
        (num_kept,) int64 rows: the same tiles for any order of the rows.

    Raises:
        ValueError: `num_kept` outside [1, N].

    Cost: one k-means of N rows, then O(N log N).

    >>> points = np.repeat(np.eye(2, dtype=np.float32), [6, 2], axis=0)
    >>> ids = np.array(list("abcdefgh"))
    >>> two = ClusteringConfig(num_clusters=2)
    >>> len(prune(points, ids, 4, rule="near", clustering=two, seed=0))
    4
    >>> kept = prune(points, ids, 4, rule="balanced", clustering=two, seed=0)
    >>> int(np.count_nonzero(kept >= 6))
    2
    """
    if not 1 <= num_kept <= len(points):
        raise ValueError(
            f"num_kept must lie between 1 and the {len(points)} rows there are; got {num_kept}."
        )
    points = np.ascontiguousarray(points, dtype=np.float32)
    num_clusters = clustering.num_clusters or default_num_clusters(num_kept, len(points))
    found = fit(
        ArrayPool(points, ids),
        num_clusters,
        config=clustering,
        seed=derive_seed(seed, "cluster"),
    )
    labels, squared = assign(points, found.centroids)
    sizes = np.bincount(labels, minlength=len(found.centroids)).astype(np.int64)
    if rule == "balanced":
        counts = water_filling(sizes, num_kept, seed=derive_seed(seed, "quota")).counts
        order = np.lexsort((id_ranks(ids), hash_ids(ids, derive_seed(seed, "inside")), labels))
    else:
        counts = equal_shares(sizes, num_kept)
        first = squared if rule == "near" else -squared
        order = np.lexsort((id_ranks(ids), first, labels))
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < counts[labels[order]]])


def equal_shares(sizes: IntArray, total: int) -> IntArray:
    """Share `total` over clusters in proportion to their sizes, by largest remainders.

    Args:
        sizes: (K,) rows in each cluster, >= 0, not all 0.
        total: at most their sum.

    Returns:
        (K,) counts that add up to `total`, each at most its size; equal remainders go to the
        lower cluster. Integers only, so it is exact.

    >>> equal_shares(np.array([60, 30, 11]), 10)
    array([6, 3, 1])
    """
    whole, left = np.divmod(sizes * total, int(sizes.sum()))
    missing = total - int(whole.sum())
    counts: IntArray = whole.astype(np.int64)
    counts[np.argsort(-left, kind="stable")[:missing]] += 1
    return counts
