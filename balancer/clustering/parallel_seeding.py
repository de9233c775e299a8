"""k-means||: first centroids drawn from all rows in a few passes (Bahmani et al. 2012).

    phi = total squared distance of all rows to the candidates C (first: one random row)
    ROUNDS times: every row joins C with probability l d^2(x, C) / phi, independently
    weigh each candidate by the rows nearest to it; draw K of them by weighted k-means++

(Algorithm 2 of arXiv 1203.6402, with l = `OVERSAMPLING` K.) A row's random number is a hash of its
id and the round, and phi is an exact integer, so any sharding draws the same candidates.
"""

from __future__ import annotations

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.initialization import weighted_plus_plus
from balancer.clustering.lloyd import Rows, Scale, inertia_of, make_scale
from balancer.seeding import child_generator, derive_seed, hash_ids
from balancer.types import FloatArray, IdArray, ShardRows

ROUNDS = 3
OVERSAMPLING = 1.0
"""Candidates per round over K. With 3 rounds of K the passes cost 6 Lloyd iterations."""


def kmeans_parallel(rows: Rows, num_clusters: int, seed: int) -> FloatArray:
    """Draw first centroids from all rows.

    Args:
        rows: where the rows are.
        num_clusters: K, at most the rows.
        seed: of this clustering.

    Returns:
        (K, D) float32. When rounds find fewer than K distinct rows, rows of a sample fill up.

    Cost: `ROUNDS` + 1 passes, in all about 6 assignments to K centroids; about 3 K rows travel.
    """
    dim, largest = rows.extent()
    scale = make_scale(rows.num_rows, dim, largest)
    ids, candidates = rows.sample(1, derive_seed(seed, "parallel-first"))
    for turn in range(ROUNDS):
        cost = inertia_of(rows.sums(candidates, scale), scale)
        if cost == 0:
            break
        parts = rows.map_shards(
            local_candidates,
            candidates,
            OVERSAMPLING * num_clusters / cost,
            derive_seed(seed, "parallel", turn),
        )
        drawn = np.concatenate([ids for ids, _ in parts])
        order = np.argsort(drawn, kind="stable")
        found = np.concatenate([points for _, points in parts])[order]
        ids = np.concatenate([ids, drawn[order]])
        candidates = np.concatenate([candidates, found])
    return _finalize(rows, num_clusters, (ids, candidates), scale, seed)


def local_candidates(
    rows: ShardRows, candidates: FloatArray, rate: float, seed: int
) -> tuple[IdArray, FloatArray]:
    """Return the rows of one shard that join, each with probability rate * d^2.

    Args:
        rows: of one shard.
        candidates: (C, D) float32 so far.
        rate: l / phi.
        seed: of this round's hashes.
    """
    _, squared = assign(rows.points, candidates, device=rows.device)
    uniform = hash_ids(rows.ids, seed).astype(np.float64) * 2.0**-64
    joins = uniform < rate * squared.astype(np.float64)
    return rows.ids[joins], rows.points[joins]


def _finalize(
    rows: Rows,
    num_clusters: int,
    drawn: tuple[IdArray, FloatArray],
    scale: Scale,
    seed: int,
) -> FloatArray:
    """Weigh the candidates by the rows nearest to them and draw K."""
    ids, candidates = drawn
    if len(candidates) < num_clusters:
        more, points = rows.sample(num_clusters, derive_seed(seed, "parallel-fill"))
        fresh = ~np.isin(more, ids)
        missing = num_clusters - len(candidates)
        candidates = np.concatenate([candidates, points[fresh][:missing]])
    weights = rows.sums(candidates, scale).counts
    rng = child_generator(seed, "parallel-draw")
    return weighted_plus_plus(candidates, weights.astype(np.float32), num_clusters, rng)
