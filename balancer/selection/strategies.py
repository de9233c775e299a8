"""The named strategies: how a budget of tiles is picked from a pool.

Each strategy is a function `(pool, budget, settings) -> Selection`; `STRATEGIES` names them. They
see the rows only through `Pool`, so a plain array and shards on many workers give the same picks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.config import QuotasConfig, SelectionConfig, Strategy, Within
from balancer.seeding import derive_seed
from balancer.selection.coresets import finalize_coreset
from balancer.selection.exchange import Picks
from balancer.selection.per_cluster import interleave
from balancer.selection.pool import Pool
from balancer.selection.quota_plan import plan_quotas
from balancer.types import Allocation, Clustering, FloatArray, IdArray, IntArray, Selection


@dataclass(frozen=True, slots=True)
class Settings:
    """What a strategy may depend on beside the rows.

    Attributes:
        seed: of this selection.
        within: rule inside a cluster for `per-cluster`.
        global_share: share of the budget that `hybrid` picks over the whole pool.
        epsilon: for `composable-epsilon`.
        coreset_rows: likewise; most rows of one shard's coreset.
        quotas: how the clusters, and metadata columns, share the budget.
        clustering: needed by the strategies in `CLUSTERED`.
    """

    seed: int
    within: Within = "farthest-point"
    global_share: float = 0.25
    clustering: Clustering | None = None
    epsilon: float = 0.5
    coreset_rows: int | None = None
    quotas: QuotasConfig = field(default_factory=QuotasConfig)

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
            config.quotas,
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


@dataclass(frozen=True, slots=True)
class Share:
    """The per-cluster part of a selection, in its order: picks with their strata and weights."""

    allocation: Allocation
    ids: IdArray
    cluster: IntArray
    distance: FloatArray
    stratum: IntArray
    repeats: IntArray | None


def select_per_cluster(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by quotas per cluster (and metadata columns), inside a cluster by `settings.within`.

    The weight of a tile is its stratum's size over how often the stratum's tiles are shown: with
    equal quotas its cluster's size over its cluster's picks. Ranks take the strata in turn, so
    that every prefix is balanced too. Where tiles may repeat, there are fewer rows than `budget`,
    and their `repeats` add up to it.
    """
    found = _share_by_quotas(pool, budget, settings, settings.within, "per-cluster")
    allocation = found.allocation
    return replace(
        _selection(
            found.ids,
            found.cluster,
            found.distance,
            (allocation.strata.sizes / np.maximum(1, allocation.counts))[found.stratum],
            f"per-cluster:{settings.within}",
        ),
        repeats=found.repeats,
        allocation=allocation,
    )


def select_hybrid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick most of the budget per cluster with farthest-point inside, the rest globally.

    The global part is farthest-point over the whole pool, given the per-cluster picks; its tiles
    weigh 1, the others their stratum's rows over its per-cluster picks, less the rows that the
    global part took of their cluster. Quotas hold for the per-cluster part; the rates of the
    allocation count both parts.
    """
    clustering = _clustering(settings, "hybrid")
    num_global = round(settings.global_share * budget)
    if num_global == budget:
        return select_farthest_point(pool, budget, settings)
    base = _share_by_quotas(pool, budget - num_global, settings, "farthest-point", "hybrid")
    allocation, strata = base.allocation, base.allocation.strata
    # Repeated tiles leave fewer rows to pick from than the budget asks for.
    num_global = min(num_global, pool.num_rows - len(base.ids))
    if num_global:
        given = Picks(base.ids, pool.vectors(base.ids), base.distance)
        picks = pool.farthest(num_global, given).picks
    else:
        dim = clustering.centroids.shape[1]
        nothing = np.empty(0, np.float32)
        picks = Picks(np.empty(0, np.str_), np.empty((0, dim), np.float32), nothing)
    # Global picks are taken with certainty: each stands for itself, and the picks of its cluster
    # for the rest of it, so that the weights add up to the rows.
    globally = (
        assign(picks.vectors, clustering.centroids)[0] if num_global else np.empty(0, np.int64)
    )
    taken = np.bincount(globally, minlength=clustering.num_clusters)
    share = taken / np.maximum(1, clustering.sizes)
    rest = strata.sizes * (1 - share[strata.cluster])
    weights = (rest / np.maximum(1, allocation.counts))[base.stratum]
    reasons = ["hybrid:per-cluster"] * len(base.ids) + ["hybrid:farthest-point"] * num_global
    repeats = base.repeats
    return Selection(
        tile_ids=np.concatenate([base.ids, picks.ids]),
        shard_ids=np.full(len(reasons), ""),
        cluster=np.concatenate([base.cluster, globally]),
        distance=np.concatenate([base.distance, np.sqrt(picks.keys)]),
        weight=np.concatenate([weights, np.ones(num_global)]),
        reason=np.array(reasons),
        repeats=None
        if repeats is None
        else np.concatenate([repeats, np.ones(num_global, np.int64)]),
        allocation=replace(allocation, rates=allocation.rates + share[strata.cluster]),
    )


def _share_by_quotas(
    pool: Pool, budget: int, settings: Settings, within: Within, strategy: str
) -> Share:
    clustering = _clustering(settings, strategy)
    allocation = plan_quotas(pool, clustering, budget, settings.quotas, seed=settings.seed)
    strata, counts = allocation.strata, allocation.counts
    picked = pool.pick_in_clusters(np.minimum(counts, strata.sizes), within, settings.seed, strata)
    positions = _positions(picked.stratum)
    order = interleave(picked.stratum, positions, seed=settings.seed)
    stratum = picked.stratum[order]
    repeats = None
    if allocation.repeats > 1:
        # A stratum's first picks are shown once more than its last ones, where it does not divide.
        each, more = np.divmod(counts, np.maximum(1, np.minimum(counts, strata.sizes)))
        repeats = each[stratum] + (positions[order] < more[stratum])
    return Share(
        allocation,
        picked.ids[order],
        strata.cluster[stratum],
        picked.distance[order],
        stratum,
        repeats,
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
