"""Selections that go beyond one rule: refined to medoids, by facility location, by density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.clustering.assignment import assign
from balancer.seeding import derive_seed
from balancer.selection.clustered_strategies import clustering_of, select_hybrid
from balancer.selection.exchange import Picks
from balancer.selection.facility_location import greedy_facilities, num_neighbors
from balancer.selection.included import INCLUDE, included_picks, no_ids
from balancer.selection.inverse_density import sample_inverse_density
from balancer.selection.medoid_refinement import cell_sizes, refine
from balancer.selection.neighbors import nearest_neighbors
from balancer.selection.plain_strategies import select_farthest_point
from balancer.selection.pool import Pool, rows_of
from balancer.selection.settings import Settings
from balancer.types import Clustering, DoubleArray, IdArray, Selection

MOST_ROWS = 100_000
"""Rows of the graph for facility location at most, unless four per pick are more."""


def select_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by farthest-point, then move each pick to the middle of what it stands for."""
    return refined_to_medoids(pool, select_farthest_point(pool, budget, settings), "medoid")


def select_hybrid_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by `hybrid`, then move each pick to the middle of what it stands for.

    A tile's weight in the allocation is that of `hybrid`, before the picks moved. With included
    tiles there is no allocation: a medoid's weight is its cell, not a rate.
    """
    base = select_hybrid(pool, budget, settings)
    clustering = clustering_of(settings, "hybrid-medoid")
    refined = refined_to_medoids(pool, base, "hybrid-medoid", clustering=clustering)
    return refined if base.num_included else replace(refined, allocation=base.allocation)


def select_facility_location(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick the rows that together lie nearest to all others, by a power of the distance."""
    return by_facility_location(
        pool,
        budget,
        power=settings.facility_power,
        seed=settings.seed,
        include=settings.include,
    )


def select_facility_medoid(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Pick by facility location, then farthest-point given those, then move to the medoids."""
    return by_representatives_and_extremes(
        pool,
        budget,
        power=settings.facility_power,
        global_share=settings.global_share,
        seed=settings.seed,
        include=settings.include,
    )


def select_inverse_density(pool: Pool, budget: int, settings: Settings) -> Selection:
    """Draw rows in inverse proportion to their density."""
    return by_inverse_density(
        pool,
        budget,
        exponent=settings.density_exponent,
        seed=settings.seed,
        include=settings.include,
    )


def refined_to_medoids(
    pool: Pool, selection: Selection, reason: str, *, clustering: Clustering | None = None
) -> Selection:
    """Replace each pick by the row nearest the mean of its Voronoi cell; see `medoid_refinement`.

    Args:
        pool: the rows.
        selection: the picks. Included tiles, which come first, stay where they are.
        reason: recorded.
        clustering: names the medoids' clusters. What clusters it gives no guarantee.

    Returns:
        As many picks, in the same order. A pick weighs as many rows as lie nearest to it: those of
        its own cell, which moved with it, so that manifest and embeddings tell the weight. The
        guarantee of the selection, if any, doubles.

    Cost: that of `medoid_refinement.refine`, and a pass that assigns the rows to the medoids.
    """
    refined = refine(pool, selection.tile_ids)
    kept = selection.num_included
    ids = np.concatenate([selection.tile_ids[:kept], refined.ids[kept:]])
    picked = _unclustered(ids, cell_sizes(pool, ids), reason)
    reasons = np.concatenate([selection.reason[:kept], picked.reason[kept:]])
    picked = replace(picked, reason=reasons, num_included=kept)
    if clustering is not None:
        cluster, _ = assign(pool.vectors(ids), clustering.centroids)
        return replace(picked, cluster=cluster)
    return replace(picked, factor=None if selection.factor is None else 2 * selection.factor)


def by_facility_location(
    pool: Pool, budget: int, *, power: float, seed: int, include: IdArray | None = None
) -> Selection:
    """Pick by facility location on a graph of nearest neighbours; see `facility_location`.

    A pool of at most `MOST_ROWS` rows is the graph. A larger one is represented by a sample of that
    many rows, or of four rows per pick if that is more: the rows with the lowest hashes. Groups too
    rare for the sample are lost then, so `medoid` and `hybrid-medoid`, which see every row, are the
    better choice for large pools. (Farthest-point representatives that weigh their Voronoi cells
    lost half of the gain: they lie at the rim of what they stand for.)

    Args:
        pool: the rows.
        budget: picks.
        power: p, the power of the distance.
        seed: decides the sample of a larger pool, and nothing else.
        include: (m,) ids of rows that are picked already, at most the budget; the greedy goes on
            from them. None when absent.

    Returns:
        The included rows, then the picks, best first. Each weighs as many rows as lie nearest to
        it.

    Raises:
        ValueError: an included id that is not among the rows, or repeats.

    Cost: for M rows in the graph M^2 D multiply-adds and M (4 D + 40 k) bytes in one process, and a
    pass that assigns all rows to the picks.
    """
    count = min(max(MOST_ROWS, 4 * budget), pool.num_rows)
    ids, points = pool.sample(count, derive_seed(seed, "facilities"))
    given = included_picks(pool, no_ids() if include is None else include)
    outside = ~np.isin(given.ids, ids)
    if outside.any():
        ids = np.concatenate([ids, given.ids[outside]])
        points = np.concatenate([points, given.vectors[outside]])
    num_given = len(given.ids)
    picked = given.ids
    if num_given < budget:
        if len(ids) == 1:
            return _unclustered(ids, np.full(1, float(pool.num_rows)), "facility-location")
        graph = nearest_neighbors(points, ids, points, ids, num_neighbors(len(ids)))
        rows = greedy_facilities(
            graph, ids, budget - num_given, power=power, given=rows_of(ids, given.ids)
        )
        picked = np.concatenate([given.ids, ids[rows]])
    return _unclustered(picked, cell_sizes(pool, picked), "facility-location", num_given)


def by_representatives_and_extremes(
    pool: Pool,
    budget: int,
    *,
    power: float,
    global_share: float,
    seed: int,
    include: IdArray | None = None,
) -> Selection:
    """Pick most by facility location, the rest by farthest-point given those, then all medoids.

    Facility location stands for what there is much of, farthest-point finds what it left out, and
    the medoids take both to the middle of what they stand for.

    Args:
        pool: the rows.
        budget: picks.
        power: of the distance, for facility location.
        global_share: of the budget, for farthest-point.
        seed: see `by_facility_location`.
        include: likewise. Included rows take from the part of farthest-point only what they exceed
            the other by.
    """
    num_given = 0 if include is None else len(include)
    num_global = min(round(global_share * budget), budget - num_given)
    if num_global == budget:
        num_global -= 1  # farthest-point starts from something
    base = by_facility_location(pool, budget - num_global, power=power, seed=seed, include=include)
    if num_global:
        keys = np.full(len(base), np.nan, np.float32)
        given = Picks(base.tile_ids, pool.vectors(base.tile_ids), keys)
        ids = np.concatenate([base.tile_ids, pool.farthest(num_global, given).picks.ids])
        base = _unclustered(ids, np.ones(budget), "facility-location", num_given)
    return refined_to_medoids(pool, base, "facility-medoid")


def by_inverse_density(
    pool: Pool, budget: int, *, exponent: float, seed: int, include: IdArray | None = None
) -> Selection:
    """Draw rows in inverse proportion to density ** exponent; see `inverse_density`.

    Args:
        pool: the rows.
        budget: picks.
        exponent: of the density.
        seed: decides the draw.
        include: (m,) ids of rows that are picked in any case: each stands for itself and weighs 1,
            and the others are drawn from the rest. None when absent.

    Returns:
        The included rows, then the picks, highest priority first, with unbiased weights.

    Raises:
        ValueError: an included id that is not among the rows, or repeats.
    """
    given = included_picks(pool, no_ids() if include is None else include).ids
    count = budget - len(given)
    if budget == pool.num_rows:
        ids, _ = pool.sample(budget, derive_seed(seed, "priority"))
        ids, weights = ids[~np.isin(ids, given)], np.ones(count)
    elif count == 0:
        ids, weights = no_ids(), np.empty(0)
    else:
        ids, weights = sample_inverse_density(
            pool, count, exponent=exponent, seed=seed, given=given
        )
    weights = np.concatenate([np.ones(len(given)), weights])
    return _unclustered(np.concatenate([given, ids]), weights, "inverse-density", len(given))


def _unclustered(
    ids: IdArray, weight: DoubleArray, reason: str, num_included: int = 0
) -> Selection:
    reasons = [INCLUDE] * num_included + [reason] * (len(ids) - num_included)
    return Selection(
        tile_ids=ids,
        shard_ids=np.full(len(ids), ""),
        cluster=np.full(len(ids), -1, np.int64),
        distance=np.full(len(ids), np.nan, np.float32),
        weight=weight,
        reason=np.array(reasons, dtype=np.str_),
        num_included=num_included,
    )
