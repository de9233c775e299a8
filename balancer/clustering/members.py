"""The first few members of every cluster, from all shards: local / merge.

Local: each shard's members by (key, id), where the key is the distance to the centroid or a seeded
hash of the id. Merge: the same choice among what the shards sent, because the first of a union are
among the first of each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.seeding import hash_ids
from balancer.types import FloatArray, IdArray, IntArray, ShardRows

MemberRule = Literal["nearest", "random"]


@dataclass(frozen=True, slots=True)
class Members:
    """Rows of clusters, in the order of (cluster, key, id).

    Attributes:
        cluster: (n,) int64.
        keys: (n,) float32 squared distances, or uint64 hashes.
        ids: (n,).
        points: (n, D) float32.
    """

    cluster: IntArray
    keys: NDArray[Any]
    ids: IdArray
    points: FloatArray


def local_members(
    rows: ShardRows, centroids: FloatArray, counts: IntArray, rule: MemberRule, seed: int
) -> Members:
    """Return one shard's first `counts[k]` members of every cluster k.

    Args:
        rows: of one shard.
        centroids: (K, D) float32.
        counts: (K,) int64, 0 where none are wanted.
        rule: `nearest` to the centroid, or `random` by hash.
        seed: of the hashes.

    Cost: one assignment; counts.sum() rows are returned at most.
    """
    labels, squared = assign(rows.points, centroids, device=rows.device)
    keys = squared if rule == "nearest" else hash_ids(rows.ids, seed)
    kept = _first_of_each(labels, keys, rows.ids, counts)
    return Members(labels[kept], keys[kept], rows.ids[kept], rows.points[kept])


def merge_members(parts: Sequence[Members], counts: IntArray) -> Members:
    """Return the first `counts[k]` members of every cluster k among all parts.

    Raises:
        ValueError: no parts.
    """
    if not parts:
        raise ValueError("merge_members needs at least one shard's part; got none.")
    cluster = np.concatenate([part.cluster for part in parts])
    keys = np.concatenate([part.keys for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    kept = _first_of_each(cluster, keys, ids, counts)
    points = np.concatenate([part.points for part in parts])
    return Members(cluster[kept], keys[kept], ids[kept], points[kept])


def _first_of_each(
    cluster: IntArray, keys: NDArray[Any], ids: IdArray, counts: IntArray
) -> IntArray:
    """Return rows in the order of (cluster, key, id), `counts[k]` of cluster k at most."""
    rows = np.flatnonzero(counts[cluster] > 0)
    order = rows[np.lexsort((keys[rows], cluster[rows]))]
    sizes = np.bincount(cluster[order], minlength=len(counts))
    starts = np.cumsum(sizes) - sizes
    # Ids are long to sort: only rows up to the last key that is wanted take part.
    wanted = np.minimum(sizes, counts)
    last = keys[order[np.maximum(starts + wanted - 1, 0)]] if len(order) else keys[:0]
    if len(order):
        order = order[keys[order] <= last[cluster[order]]]
    order = order[np.lexsort((ids[order], keys[order], cluster[order]))]
    sizes = np.bincount(cluster[order], minlength=len(counts))
    places = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[places < counts[cluster[order]]]
