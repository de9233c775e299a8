"""Picking inside one cluster, and interleaving the clusters' picks into one ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.config import Within
from balancer.distances import distances_to, id_ranks
from balancer.seeding import derive_seed
from balancer.selection.farthest_point import farthest_point, seeded_first
from balancer.selection.uniform import lowest_hashes
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class ClusterPicks:
    """Rows picked in one cluster, best first.

    Attributes:
        rows: (n,) int64 row numbers in the cluster's arrays.
        distances: (n,) float32: for farthest-point the distance to the cluster's picks before it
            (NaN for the first), for nearest the distance to the centroid, for random NaN.
    """

    rows: IntArray
    distances: FloatArray


def pick_in_cluster(  # noqa: PLR0913 - rule, place and weights are one cluster's
    points: FloatArray,
    ids: IdArray,
    count: int,
    *,
    rule: Within,
    centroid: FloatArray,
    seed: int,
    included: IntArray | None = None,
    quality: DoubleArray | None = None,
) -> ClusterPicks:
    """Pick `count` of one cluster's rows by `rule`, beside those included already.

    Args:
        points: (N, D) float32 rows of the cluster, in any order.
        ids: (N,) unique tile ids.
        count: at most N, less the included rows.
        rule: `random`, `nearest` (to the centroid) or `farthest-point`.
        centroid: (D,) float32.
        seed: the cluster's own seed.
        included: (m,) row numbers that are picked already: they are not picked again, and
            farthest-point starts from them.
        quality: (N,) from 1e-6 to 1, multiplies the distances of farthest-point.

    Returns:
        The picks without the included; the same tiles for any order of the rows.

    Cost: O(N D) for random and nearest, at most O(N D count) for farthest-point.
    """
    if count == 0:
        return ClusterPicks(np.empty(0, np.int64), np.empty(0, np.float32))
    taken = np.empty(0, np.int64) if included is None else included
    if rule == "random":
        rows = lowest_hashes(ids, count + len(taken), seed=seed)
        rows = rows[~np.isin(rows, taken)][:count]
        return ClusterPicks(rows, np.full(count, np.nan, np.float32))
    if rule == "nearest":
        squared = distances_to(points, centroid)
        rows = np.lexsort((id_ranks(ids), squared))
        rows = rows[~np.isin(rows, taken)][:count]
        return ClusterPicks(rows, np.sqrt(squared[rows]))
    picks = farthest_point(
        points,
        count + len(taken),
        first=None if len(taken) else seeded_first(ids, seed),
        ids=ids,
        include=taken,
        quality=quality,
    )
    distances = picks.distances[len(taken) :]
    if len(taken) == 0:
        distances[0] = np.nan
    return ClusterPicks(picks.indices[len(taken) :], distances)


def cluster_seed(seed: int, cluster: int) -> int:
    """Return the seed of one cluster's picks."""
    return derive_seed(seed, "cluster", cluster)


def interleave(cluster: IntArray, position: IntArray, *, seed: int) -> IntArray:
    """Order picks so that every prefix is spread over the clusters.

    Args:
        cluster: (n,) cluster of each pick.
        position: (n,) place of the pick within its cluster, from 0.
        seed: orders the clusters within one turn.

    Returns:
        (n,) int64 permutation: first every cluster's first pick, then every second pick, ...

    >>> interleave(np.array([0, 0, 1]), np.array([0, 1, 0]), seed=0)[2]
    np.int64(1)
    """
    clusters = np.unique(cluster)
    turn = np.array([derive_seed(seed, "turn", int(c)) for c in clusters], dtype=np.int64)
    return np.lexsort((turn[np.searchsorted(clusters, cluster)], position)).astype(np.int64)
