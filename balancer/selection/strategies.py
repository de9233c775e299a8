"""The named strategies: how a budget of tiles is picked from a pool.

Each strategy is a function `(pool, budget, settings) -> Selection`; `STRATEGIES` names them. They
see the rows only through `Pool`, so a plain array and shards on many workers give the same picks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.config import SelectionConfig, Strategy, Within
from balancer.seeding import derive_seed
from balancer.selection.coresets import finalize_coreset
from balancer.selection.exchange import Picks
from balancer.selection.per_cluster import interleave
from balancer.selection.pool import Picked, Pool
from balancer.selection.quotas import water_filling
from balancer.selection.recipes import (
    by_facility_location,
    by_inverse_density,
    by_representatives_and_extremes,
    refined_to_medoids,
)
from balancer.types import Clustering, FloatArray, IdArray, IntArray, Selection


@dataclass(frozen=True, slots=True)
class Settings:
    """What a strategy may depend on beside the rows.

    Attributes:
        seed: of this selection.
        within: rule inside a cluster for `per-cluster`.
        global_share: share of the budget that `hybrid` and others pick over the whole pool.
        epsilon: for `composable-epsilon`.
        coreset_rows: likewise; most rows of one shard's coreset.
        facility_power: for `facility-location` and `facility-medoid`.
        density_exponent: for `inverse-density`.
        clustering: needed by the strategies in `CLUSTERED`.
    """

    seed: int
    within: Within = "farthest-point"
    global_share: float = 0.25
    clustering: Clustering | None = None
    epsilon: float = 0.5
    coreset_rows: int | None = None
    density_exponent: float = 1.0
    facility_power: float = 2.0

    @classmethod
    def of(cls, config: SelectionConfig, seed: int, clustering: Clustering | None) -> Settings:
        """Take the settings from a configuration."""
        return cls(
            seed,
            config.within,
            config.global_share,
            clustering,
            config.epsilon,
            config.coreset_rows,
            config.density_exponent,
            config.facility_power,
        )


def select_random(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick uniformly at random; every tile's weight is N / budget."""
    ids, _ = pool.sample(budget, derive_seed(settings.seed, "random"))
    count = len(ids)
    return _selection(
        ids,
        np.full(count, -1, np.int64),
        np.full(count, np.nan, np.float32),
        np.full(count, pool.num_rows / budget),
        "random",
    )


def select_farthest_point(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by Algorithm 1 from a seeded first tile. Weights are 1: there is no sampling rate."""
    first_id, first_vector = pool.sample(1, derive_seed(settings.seed, "first"))
    given = Picks(first_id, first_vector, np.full(1, np.nan, np.float32))
    run = pool.farthest(budget - 1, given)
    return replace(
        _selection(
            np.concatenate([given.ids, run.picks.ids]),
            np.full(budget, -1, np.int64),
            np.sqrt(np.concatenate([given.keys, run.picks.keys])),
            np.ones(budget),
            "farthest-point",
        ),
        radius=run.radius,
        farthest_id=run.farthest_id,
        factor=2.0,
    )


def select_per_cluster(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick an equal number per cluster by water-filling, inside a cluster by `settings.within`.

    The weight of a tile is its cluster's size over its cluster's picks. Ranks take the clusters in
    turn, so that every prefix is balanced too.
    """
    clustering = _clustering(settings, "per-cluster")
    quota = water_filling(clustering.sizes, budget, seed=settings.seed)
    picked = pool.pick_in_clusters(quota.counts, settings.within, settings.seed)
    weights = clustering.sizes[picked.cluster] / quota.counts[picked.cluster]
    order = interleave(picked.cluster, _positions(picked.cluster), seed=settings.seed)
    return _selection(
        picked.ids[order],
        picked.cluster[order],
        picked.distance[order],
        weights[order],
        f"per-cluster:{settings.within}",
    )


def select_hybrid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick most of the budget per cluster with farthest-point inside, the rest globally.

    The global part is farthest-point over the whole pool, given the per-cluster picks; its tiles
    weigh 1, the others their cluster's remaining size over its per-cluster picks.
    """
    clustering = _clustering(settings, "hybrid")
    num_global = round(settings.global_share * budget)
    quota = water_filling(clustering.sizes, budget - num_global, seed=settings.seed)
    picked = pool.pick_in_clusters(quota.counts, "farthest-point", settings.seed)
    order = interleave(picked.cluster, _positions(picked.cluster), seed=settings.seed)
    base = Picked(picked.ids[order], picked.cluster[order], picked.distance[order])
    weights = clustering.sizes[base.cluster] / quota.counts[base.cluster]
    if num_global == 0:
        return _selection(base.ids, base.cluster, base.distance, weights, "hybrid:per-cluster")
    if num_global == budget:
        return select_farthest_point(pool, budget, settings)
    given = Picks(base.ids, pool.vectors(base.ids), base.distance)
    run = pool.farthest(num_global, given)
    ids = run.picks.ids
    # Global picks are taken with certainty: each stands for itself, and the picks of its cluster
    # for the rest of it, so that the weights add up to the rows.
    globally, _ = assign(run.picks.vectors, clustering.centroids)
    rest = clustering.sizes - np.bincount(globally, minlength=clustering.num_clusters)
    weights = rest[base.cluster] / quota.counts[base.cluster]
    distances = np.sqrt(run.picks.keys)
    reasons = ["hybrid:per-cluster"] * len(base.ids) + ["hybrid:farthest-point"] * num_global
    return Selection(
        tile_ids=np.concatenate([base.ids, ids]),
        shard_ids=np.full(len(reasons), ""),
        cluster=np.concatenate([base.cluster, globally]),
        distance=np.concatenate([base.distance, distances]),
        weight=np.concatenate([weights, np.ones(num_global)]),
        reason=np.array(reasons),
    )


def select_composable(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick in two rounds (Malkomes et al. 2015): the budget per shard, then of their union."""
    return _from_coreset(pool, budget, settings, None, "composable")


def select_composable_epsilon(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick in two rounds (Ceccarello et al. 2019), from shards' coresets fine enough for epsilon.

    `factor` is what was achieved: 2 + epsilon, or more where `coreset_rows` ended a coreset.
    """
    return _from_coreset(pool, budget, settings, settings.epsilon, "composable-epsilon")


def _from_coreset(
    pool: Pool, budget: int, settings: Settings, epsilon: float | None, reason: str
) -> Selection:
    seed = derive_seed(settings.seed, "coreset")
    limit = None if epsilon is None else settings.coreset_rows
    found = finalize_coreset(pool.coreset(budget, epsilon, seed, limit), seed=seed)
    distances = found.distances.copy()
    distances[0] = np.nan
    chosen = _selection(
        found.ids, np.full(budget, -1, np.int64), distances, np.ones(budget), reason
    )
    return replace(chosen, factor=found.factor)


def select_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by farthest-point, then move each pick to the middle of what it stands for."""
    return refined_to_medoids(pool, select_farthest_point(pool, budget, settings), "medoid")


def select_hybrid_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by `hybrid`, then move each pick to the middle of what it stands for."""
    base = select_hybrid(pool, budget, settings)
    return refined_to_medoids(
        pool, base, "hybrid-medoid", clustering=_clustering(settings, "hybrid-medoid")
    )


def select_facility_location(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick the rows that together lie nearest to all others, by a power of the distance."""
    return by_facility_location(pool, budget, power=settings.facility_power, seed=settings.seed)


def select_facility_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by facility location, then farthest-point given those, then move to the medoids."""
    return by_representatives_and_extremes(
        pool,
        budget,
        power=settings.facility_power,
        global_share=settings.global_share,
        seed=settings.seed,
    )


def select_inverse_density(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Draw rows in inverse proportion to their density."""
    return by_inverse_density(pool, budget, exponent=settings.density_exponent, seed=settings.seed)


STRATEGIES: dict[Strategy, Callable[[Pool, int, Settings], Selection]] = {
    "random": select_random,
    "farthest-point": select_farthest_point,
    "per-cluster": select_per_cluster,
    "hybrid": select_hybrid,
    "composable": select_composable,
    "composable-epsilon": select_composable_epsilon,
    "medoid": select_medoid,
    "hybrid-medoid": select_hybrid_medoid,
    "facility-location": select_facility_location,
    "facility-medoid": select_facility_medoid,
    "inverse-density": select_inverse_density,
}

CLUSTERED: frozenset[Strategy] = frozenset({"per-cluster", "hybrid", "hybrid-medoid"})
"""Strategies that need a clustering."""


def run_strategy(strategy: Strategy, pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick `budget` tiles from `pool` by the named strategy.

    Raises:
        ValueError: the budget is not between 1 and the number of rows, or a clustering is missing.
    """
    if not 1 <= budget <= pool.num_rows:
        raise ValueError(
            f"The budget must lie between 1 and the {pool.num_rows} rows there are; got {budget}."
        )
    return STRATEGIES[strategy](pool, budget, settings)


def _clustering(settings: Settings, strategy: str) -> Clustering:
    if settings.clustering is None:
        raise ValueError(f"The {strategy} strategy needs a clustering; got none.")
    return settings.clustering


def _positions(cluster: IntArray) -> IntArray:
    """Return each pick's place within its cluster; picks of a cluster stand in order."""
    order = np.argsort(cluster, kind="stable")
    sizes = np.unique(cluster, return_counts=True)[1]
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    positions = np.empty(len(cluster), dtype=np.int64)
    positions[order] = np.arange(len(cluster)) - starts
    return positions


def _selection(
    ids: IdArray,
    cluster: IntArray,
    distance: FloatArray,
    weight: np.ndarray[tuple[int], np.dtype[np.float64]],
    reason: str,
) -> Selection:
    return Selection(
        tile_ids=ids,
        shard_ids=np.full(len(ids), ""),
        cluster=cluster,
        distance=distance,
        weight=weight,
        reason=np.full(len(ids), reason),
    )
