"""Strategies with quotas: per-cluster, hierarchical, and hybrid, which adds global picks.

Strata are the clusters, or cells of clusters and metadata columns. Included tiles are floors of
their stratum: they count first, the stratum's other picks start from them, and weights and rates
are those of `balancer.selection.included`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.config import Within
from balancer.selection.exchange import Picks
from balancer.selection.included import (
    find_quality,
    included_picks,
    put_first,
    strata_of,
    stratum_weights,
    with_included_rates,
)
from balancer.selection.per_cluster import interleave
from balancer.selection.plain_strategies import make_selection, select_farthest_point
from balancer.selection.pool import Pool
from balancer.selection.quota_plan import find_strata, share_levels, share_strata
from balancer.selection.settings import Settings
from balancer.types import (
    Allocation,
    Clustering,
    DoubleArray,
    FloatArray,
    IdArray,
    IntArray,
    Selection,
)


@dataclass(frozen=True, slots=True)
class Included:
    """Included tiles of a share: picks, and (m,) stratum and repeats of each."""

    picks: Picks
    stratum: IntArray
    repeats: IntArray


@dataclass(frozen=True, slots=True)
class Share:
    """The per-cluster part of a selection: what each stratum gives, and the picks in their order.

    Attributes:
        allocation: rates are not yet those of a selection with included tiles.
        included: tiles that had to be picked; they come before the others.
        ids: (n,) the other picks.
        stratum: (n,) theirs.
        distance: (n,) theirs.
        repeats: (n,) how often each is shown.
    """

    allocation: Allocation
    included: Included
    ids: IdArray
    stratum: IntArray
    distance: FloatArray
    repeats: IntArray

    @property
    def cluster(self) -> IntArray:
        """(n,) cluster of each pick."""
        return self.allocation.strata.cluster[self.stratum]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a share's included tiles (m,) and other picks (n,), rates of its strata (S,)."""

    included: DoubleArray
    picked: DoubleArray
    rates: DoubleArray


def select_per_cluster(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by quotas per cluster (and metadata columns), inside a cluster by `settings.within`.

    The weight of a tile is its stratum's size over how often the stratum's tiles are shown: with
    equal quotas its cluster's size over its cluster's picks. Ranks take the strata in turn, so
    that every prefix is balanced too; included tiles come before all turns. Where tiles may
    repeat, there are fewer rows than `budget`, and their `repeats` add up to it.
    """
    return _by_quotas(pool, budget, settings, "per-cluster")


def select_hierarchical(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by water-filling from the top of a hierarchy of clusters down to its finest level.

    Inside a finest cluster and in the ranking it is as `select_per_cluster`, which it equals for a
    clustering of one level; the weight of a tile is the inverse of the product of the shares along
    its path.
    """
    return _by_quotas(pool, budget, settings, "hierarchical")


def _by_quotas(pool: Pool, budget: int, settings: Settings, strategy: str) -> Selection:
    share = _share_by_quotas(pool, budget, settings, settings.within, strategy)
    clustering = clustering_of(settings, strategy)
    weights = _weigh(share, np.zeros(clustering.num_clusters, np.int64))
    rest = make_selection(
        share.ids, share.cluster, share.distance, weights.picked, f"{strategy}:{settings.within}"
    )
    return _finish(share, weights, rest, share.repeats)


def select_hybrid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick most of the budget per cluster with farthest-point inside, the rest globally.

    The global part is farthest-point over the whole pool, given the per-cluster picks and included
    tiles; its tiles weigh 1, the others their stratum's rows over its per-cluster picks, less the
    rows that the global part took of their cluster. Included tiles take from the global part only
    what they exceed the per-cluster part by. Quotas hold for the per-cluster part; the rates of the
    allocation count both parts.
    """
    clustering = clustering_of(settings, "hybrid")
    num_global = min(round(settings.global_share * budget), budget - len(settings.include))
    if num_global == budget:
        return select_farthest_point(pool, budget, settings)
    share = _share_by_quotas(pool, budget - num_global, settings, "farthest-point", "hybrid")
    before = np.concatenate([share.included.picks.ids, share.ids])
    # Repeated tiles leave fewer rows to pick from than the budget asks for.
    num_global = min(num_global, pool.num_rows - len(before))
    picks = Picks(
        np.empty(0, np.str_),
        np.empty((0, clustering.centroids.shape[1]), np.float32),
        np.empty(0, np.float32),
    )
    globally = np.empty(0, np.int64)
    if num_global:
        seen = Picks(before, pool.vectors(before), np.full(len(before), np.nan, np.float32))
        quality = find_quality(pool, settings.quality_column)
        picks = pool.farthest(num_global, seen, quality=quality).picks
        globally, _ = assign(picks.vectors, clustering.centroids)
    # Global picks are taken with certainty: each stands for itself, and the picks of its cluster
    # for the rest of it, so that the weights add up to the rows.
    taken = np.bincount(globally, minlength=clustering.num_clusters)
    weights = _weigh(share, taken)
    reasons = ["hybrid:per-cluster"] * len(share.ids) + ["hybrid:farthest-point"] * num_global
    rest = Selection(
        tile_ids=np.concatenate([share.ids, picks.ids]),
        shard_ids=np.full(len(reasons), ""),
        cluster=np.concatenate([share.cluster, globally]),
        distance=np.concatenate([share.distance, np.sqrt(picks.keys)]),
        weight=np.concatenate([weights.picked, np.ones(num_global)]),
        reason=np.array(reasons, dtype=np.str_),
    )
    repeats = np.concatenate([share.repeats, np.ones(num_global, np.int64)])
    return _finish(share, weights, rest, repeats)


def _share_by_quotas(
    pool: Pool, budget: int, settings: Settings, within: Within, strategy: str
) -> Share:
    clustering = clustering_of(settings, strategy)
    given = included_picks(pool, settings.include)
    strata = find_strata(pool, clustering, settings.quotas)
    own = strata_of(pool, given, clustering.centroids, strata)
    floors = np.bincount(own, minlength=len(strata)).astype(np.int64)
    if strategy == "hierarchical":
        allocation = share_levels(strata, clustering, budget, seed=settings.seed, floors=floors)
    else:
        allocation = share_strata(
            strata,
            budget,
            settings.quotas,
            clustering.num_clusters,
            seed=settings.seed,
            floors=floors,
        )
    counts = allocation.counts
    distinct = np.minimum(counts, strata.sizes)
    picked = pool.pick_in_clusters(
        distinct - floors,
        within,
        settings.seed,
        strata,
        included=given.ids,
        quality=find_quality(pool, settings.quality_column),
    )
    positions = _positions(picked.stratum)
    order = interleave(picked.stratum, positions, seed=settings.seed)
    stratum = picked.stratum[order]
    # A stratum's first tiles are shown once more than its last ones, where it does not divide.
    each, more = np.divmod(counts, np.maximum(1, distinct))
    return Share(
        allocation,
        Included(given, own, each[own] + (_positions(own) < more[own])),
        picked.ids[order],
        stratum,
        picked.distance[order],
        each[stratum] + (floors[stratum] + positions[order] < more[stratum]),
    )


def _weigh(share: Share, taken: IntArray) -> Weights:
    """Weigh the picks of a share, given how many rows of each cluster were taken beside it."""
    strata, counts = share.allocation.strata, share.allocation.counts
    own, shown = share.included.stratum, share.included.repeats
    floors = np.bincount(own, minlength=len(strata)).astype(np.int64)
    others = strata.sizes - floors
    of_cluster = np.bincount(strata.cluster, others, minlength=len(taken))
    spread = (taken / np.maximum(1, of_cluster))[strata.cluster]
    rest = others * (1 - spread)
    shown_certainly = np.bincount(own, shown, minlength=len(strata))
    certain, weight = stratum_weights(rest + floors, floors, counts - shown_certainly)
    rates = (counts - shown_certainly) / np.maximum(1, others) + spread
    return Weights(certain[own] / shown, weight[share.stratum], rates)


def _finish(share: Share, weights: Weights, rest: Selection, repeats: IntArray) -> Selection:
    """Put the included tiles first, and say how often tiles are shown and what strata gave."""
    allocation, included = share.allocation, share.included
    if allocation.repeats > 1:
        rest = replace(rest, repeats=repeats)
    chosen = put_first(
        included.picks,
        allocation.strata.cluster[included.stratum],
        weights.included,
        rest,
        repeats=included.repeats,
    )
    allocation = replace(allocation, rates=weights.rates)
    return replace(chosen, allocation=with_included_rates(allocation, chosen))


def clustering_of(settings: Settings, strategy: str) -> Clustering:
    """Return the clustering that a strategy needs.

    Raises:
        ValueError: there is none.
    """
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
