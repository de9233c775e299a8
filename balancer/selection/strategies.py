"""The named strategies: how a budget of tiles is picked from a pool.

Each strategy is a function `(pool, budget, settings) -> Selection`; `STRATEGIES` names them. They
see the rows only through `Pool`, so a plain array and shards on many workers give the same picks.

For all of them: excluded rows are not in the pool. Included tiles come first, with the reason
`include`, count against the budget and their cluster's quota, and are never picked again; what is
picked by distance starts from them. Quality multiplies the distances of farthest-point, and
outliers are left out by it; strategies for which these mean nothing refuse them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.config import SelectionConfig, Strategy, Within, can_trim, can_weigh
from balancer.seeding import derive_seed
from balancer.selection.exchange import Picks
from balancer.selection.included import (
    INCLUDE,
    clusters_of,
    find_quality,
    included_picks,
    no_ids,
    put_first,
    stratum_weights,
)
from balancer.selection.outliers import local_outliers, merge_outliers
from balancer.selection.per_cluster import interleave
from balancer.selection.pool import Picked, Pool
from balancer.selection.quotas import water_filling
from balancer.types import Clustering, FloatArray, IdArray, IntArray, Selection


@dataclass(frozen=True, slots=True)
class Settings:
    """What a strategy may depend on beside the rows.

    Attributes:
        seed: of this selection.
        within: rule inside a cluster for `per-cluster`.
        global_share: share of the budget that `hybrid` picks over the whole pool.
        epsilon: for `composable-epsilon`.
        coreset_rows: likewise; most rows of one shard's coreset.
        clustering: needed by the strategies in `CLUSTERED`.
        include: (m,) ids that must be picked, in their order.
        quality_column: name of the column that multiplies the distances of farthest-point.
        num_outliers: z rows that `farthest-point` leaves out.
    """

    seed: int
    within: Within = "farthest-point"
    global_share: float = 0.25
    clustering: Clustering | None = None
    epsilon: float = 0.5
    coreset_rows: int | None = None
    include: IdArray = field(default_factory=no_ids)
    quality_column: str | None = None
    num_outliers: int = 0

    @classmethod
    def of(
        cls,
        config: SelectionConfig,
        seed: int,
        clustering: Clustering | None,
        *,
        include: IdArray | None = None,
    ) -> Settings:
        """Take the settings from a configuration; `include` are the ids that its file names."""
        return cls(
            seed,
            config.within,
            config.global_share,
            clustering,
            config.epsilon,
            config.coreset_rows,
            no_ids() if include is None else include,
            config.quality_column,
            config.num_outliers,
        )

    def for_comparison(self, strategy: Strategy) -> Settings:
        """Return the settings for another strategy: without what means nothing for it."""
        return replace(
            self,
            quality_column=self.quality_column if can_weigh(strategy, self.within) else None,
            num_outliers=self.num_outliers if can_trim(strategy) else 0,
        )


def select_random(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick uniformly at random; every tile's weight is N / budget.

    With m included tiles, the others are a random sample of the other rows and weigh
    (N - m) / (budget - m).
    """
    given = included_picks(pool, settings.include)
    ids, _ = pool.sample(budget, derive_seed(settings.seed, "random"))
    ids = ids[~np.isin(ids, given.ids)][: budget - len(given.ids)]
    count = len(ids)
    certain, weight = stratum_weights(
        np.array([pool.num_rows]), np.array([len(given.ids)]), np.array([count])
    )
    picked = _selection(
        ids,
        np.full(count, -1, np.int64),
        np.full(count, np.nan, np.float32),
        np.full(count, weight[0]),
        "random",
    )
    return put_first(
        given, np.full(len(given.ids), -1, np.int64), np.repeat(certain, len(given.ids)), picked
    )


def select_farthest_point(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by Algorithm 1 from the included tiles, or from a seeded first one where there are none.

    Weights are 1: there is no sampling rate. With quality, distances are multiplied by it; with z
    outliers each pick is the tile after the z farthest, and the z that are farthest in the end are
    named. Either way nothing guarantees a factor, and `certify_selection` bounds the optimum by
    another run.
    """
    given = included_picks(pool, settings.include)
    num_included, skip = len(given.ids), settings.num_outliers
    if num_included == 0:
        first_id, first_vector = pool.sample(1, derive_seed(settings.seed, "first"))
        given = Picks(first_id, first_vector, np.full(1, np.nan, np.float32))
    quality = find_quality(pool, settings.quality_column)
    run = pool.farthest(budget - len(given.ids), given, quality=quality, skip=skip)
    picked = _selection(
        np.concatenate([given.ids, run.picks.ids]),
        np.full(budget, -1, np.int64),
        np.sqrt(np.concatenate([given.keys, run.picks.keys])),
        np.ones(budget),
        "farthest-point",
    )
    if num_included:
        reasons = np.where(np.arange(budget) < num_included, INCLUDE, picked.reason)
        picked = replace(picked, reason=reasons, num_included=num_included)
    if skip:
        vectors = np.concatenate([given.vectors, run.picks.vectors])
        parts = pool.map_shards(local_outliers, picked.tile_ids, vectors, skip, quality)
        picked = replace(picked, outliers=merge_outliers(parts, skip).ids)
    if skip or quality is not None:
        return picked
    return replace(picked, radius=run.radius, farthest_id=run.farthest_id, factor=2.0)


def select_per_cluster(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick an equal number per cluster by water-filling, inside a cluster by `settings.within`.

    The weight of a tile is its cluster's size over its cluster's picks. Ranks take the clusters in
    turn, so that every prefix is balanced too; included tiles come before all turns.
    """
    clustering = _clustering(settings, "per-cluster")
    given = included_picks(pool, settings.include)
    own, floors = clusters_of(given, clustering)
    quota = water_filling(clustering.sizes, budget, seed=settings.seed, floors=floors)
    free = quota.counts - floors
    picked = pool.pick_in_clusters(
        free,
        settings.within,
        settings.seed,
        included=given.ids,
        quality=find_quality(pool, settings.quality_column),
    )
    certain, weights = stratum_weights(clustering.sizes, floors, free)
    order = interleave(picked.cluster, _positions(picked.cluster), seed=settings.seed)
    rest = _selection(
        picked.ids[order],
        picked.cluster[order],
        picked.distance[order],
        weights[picked.cluster][order],
        f"per-cluster:{settings.within}",
    )
    return put_first(given, own, certain[own], rest)


def select_hybrid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick most of the budget per cluster with farthest-point inside, the rest globally.

    The global part is farthest-point over the whole pool, given the per-cluster picks and included
    tiles; its tiles weigh 1, the others their cluster's remaining size over its per-cluster picks.
    Included tiles take from the global part only what they exceed the per-cluster part by.
    """
    clustering = _clustering(settings, "hybrid")
    given = included_picks(pool, settings.include)
    num_global = min(round(settings.global_share * budget), budget - len(given.ids))
    if num_global == budget:
        return select_farthest_point(pool, budget, settings)
    own, floors = clusters_of(given, clustering)
    quality = find_quality(pool, settings.quality_column)
    quota = water_filling(clustering.sizes, budget - num_global, seed=settings.seed, floors=floors)
    free = quota.counts - floors
    picked = pool.pick_in_clusters(
        free, "farthest-point", settings.seed, included=given.ids, quality=quality
    )
    order = interleave(picked.cluster, _positions(picked.cluster), seed=settings.seed)
    base = Picked(picked.ids[order], picked.cluster[order], picked.distance[order])
    if num_global == 0:
        certain, weights = stratum_weights(clustering.sizes, floors, free)
        only = _selection(
            base.ids, base.cluster, base.distance, weights[base.cluster], "hybrid:per-cluster"
        )
        return put_first(given, own, certain[own], only)
    before = np.concatenate([given.ids, base.ids])
    seen = Picks(before, pool.vectors(before), np.full(len(before), np.nan, np.float32))
    run = pool.farthest(num_global, seen, quality=quality)
    ids = run.picks.ids
    # Global picks are taken with certainty: each stands for itself, and the picks of its cluster
    # for the rest of it, so that the weights add up to the rows.
    globally, _ = assign(run.picks.vectors, clustering.centroids)
    rest = clustering.sizes - np.bincount(globally, minlength=clustering.num_clusters)
    certain, weights = stratum_weights(rest, floors, free)
    distances = np.sqrt(run.picks.keys)
    reasons = ["hybrid:per-cluster"] * len(base.ids) + ["hybrid:farthest-point"] * num_global
    chosen = Selection(
        tile_ids=np.concatenate([base.ids, ids]),
        shard_ids=np.full(len(reasons), ""),
        cluster=np.concatenate([base.cluster, globally]),
        distance=np.concatenate([base.distance, distances]),
        weight=np.concatenate([weights[base.cluster], np.ones(num_global)]),
        reason=np.array(reasons),
    )
    return put_first(given, own, certain[own], chosen)


def select_composable(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick in two rounds (Malkomes et al. 2015): the budget per shard, then of their union."""
    return _from_coreset(pool, budget, settings, None, "composable")


def select_composable_epsilon(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick in two rounds (Ceccarello et al. 2019), from shards' coresets fine enough for epsilon.

    `factor` is what was achieved: 2 + epsilon, or more where `coreset_rows` ended a coreset, or
    `balancer.selection.coresets.default_limit` where there is none.
    """
    return _from_coreset(pool, budget, settings, settings.epsilon, "composable-epsilon")


def _from_coreset(
    pool: Pool, budget: int, settings: Settings, epsilon: float | None, reason: str
) -> Selection:
    seed = derive_seed(settings.seed, "coreset")
    limit = None if epsilon is None else settings.coreset_rows
    given = included_picks(pool, settings.include)
    found = pool.pick_from_coresets(budget, epsilon, seed, limit, given)
    distances, count = found.distances.copy(), len(given.ids)
    if count == 0:
        distances[0] = np.nan
    free = len(found.ids)
    chosen = _selection(found.ids, np.full(free, -1, np.int64), distances, np.ones(free), reason)
    chosen = put_first(given, np.full(count, -1, np.int64), np.ones(count), chosen)
    return replace(chosen, factor=found.factor, coreset=found.describe(epsilon))


STRATEGIES: dict[Strategy, Callable[[Pool, int, Settings], Selection]] = {
    "random": select_random,
    "farthest-point": select_farthest_point,
    "per-cluster": select_per_cluster,
    "hybrid": select_hybrid,
    "composable": select_composable,
    "composable-epsilon": select_composable_epsilon,
}

CLUSTERED: frozenset[Strategy] = frozenset({"per-cluster", "hybrid"})
"""Strategies that need a clustering."""


def run_strategy(strategy: Strategy, pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick `budget` tiles from `pool` by the named strategy.

    Raises:
        ValueError: the budget is not between 1 and the number of rows, less the outliers; it is
            exceeded by the included tiles; one of them is not among the rows; a quality is no
            number above 0; quality or outliers mean nothing for the strategy; a clustering is
            missing.
    """
    _check(strategy, settings)
    if not 1 <= budget <= pool.num_rows:
        raise ValueError(
            f"The budget must lie between 1 and the {pool.num_rows} rows there are; got {budget}."
        )
    if budget + settings.num_outliers > pool.num_rows:
        raise ValueError(
            f"Budget and num_outliers must not exceed the {pool.num_rows} rows together; got "
            f"{budget} and {settings.num_outliers}. Lower one of them."
        )
    if len(settings.include) > budget:
        raise ValueError(
            f"The included tiles must not exceed the budget of {budget}; got "
            f"{len(settings.include)}, and {str(settings.include[budget])!r} is the first too "
            f"many. Raise the budget, or shorten the list."
        )
    return STRATEGIES[strategy](pool, budget, settings)


def _check(strategy: Strategy, settings: Settings) -> None:
    if settings.quality_column is not None and not can_weigh(strategy, settings.within):
        raise ValueError(
            f"quality_column must not be given for {strategy}, which has no distances that "
            f"quality could multiply. Use farthest-point, hybrid, or per-cluster with "
            f"farthest-point inside."
        )
    if settings.num_outliers and not can_trim(strategy):
        raise ValueError(
            f"num_outliers must be 0 for {strategy}, which leaves none out. Use farthest-point."
        )


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
