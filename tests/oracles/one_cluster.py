"""Picking inside one cluster, by the definition of each rule: what batched picks must equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.config import Within
from balancer.distances import distances_to, id_ranks
from balancer.seeding import derive_seed
from balancer.selection.farthest_point import farthest_point, seeded_first
from balancer.selection.medoids import medoids
from balancer.selection.uniform import lowest_hashes
from balancer.types import FloatArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class ClusterPicks:
    """Rows picked in one cluster, best first.

    Attributes:
        rows: (n,) int64 row numbers in the cluster's arrays.
        distances: (n,) float32: for farthest-point the distance to the cluster's picks before it
            (NaN for the first), for nearest the distance to the centroid, for medoid that to the
            mean of the pick's Voronoi cell, for random NaN.
    """

    rows: IntArray
    distances: FloatArray


def pick_in_cluster(
    points: FloatArray,
    ids: IdArray,
    count: int,
    *,
    rule: Within,
    centroid: FloatArray,
    seed: int,
    included: IntArray | None = None,
    quality: FloatArray | None = None,
) -> ClusterPicks:
    """Pick `count` of one cluster's rows by `rule`, beside the `included` row numbers."""
    if count == 0:
        return ClusterPicks(np.empty(0, np.int64), np.empty(0, np.float32))
    taken = np.empty(0, np.int64) if included is None else included
    if rule == "random":
        rows = lowest_hashes(ids, len(ids), seed=seed)
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
    if rule == "medoid":
        rows, squared = medoids(points, ids, picks.indices)
        return ClusterPicks(rows[len(taken) :], np.sqrt(squared[len(taken) :]))
    distances = picks.distances[len(taken) :]
    if len(taken) == 0:
        distances[0] = np.nan
    return ClusterPicks(picks.indices[len(taken) :], distances)


def cluster_seed(seed: int, cluster: int) -> int:
    """Return the seed of one cluster's picks."""
    return derive_seed(seed, "cluster", cluster)
