"""Strategies over the whole pool: random, farthest-point, and the two-round ones.

See `balancer.selection.strategies` for what all strategies have in common.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from balancer.seeding import derive_seed
from balancer.selection.exchange import Picks
from balancer.selection.included import (
    INCLUDE,
    find_quality,
    included_picks,
    put_first,
    stratum_weights,
)
from balancer.selection.outliers import local_outliers, merge_outliers
from balancer.selection.pool import Pool
from balancer.selection.settings import Settings
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray, Selection


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
    picked = make_selection(
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
    picked = make_selection(
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
    chosen = make_selection(
        found.ids, np.full(free, -1, np.int64), distances, np.ones(free), reason
    )
    chosen = put_first(given, np.full(count, -1, np.int64), np.ones(count), chosen)
    return replace(chosen, factor=found.factor, coreset=found.describe(epsilon))


def make_selection(
    ids: IdArray,
    cluster: IntArray,
    distance: FloatArray,
    weight: DoubleArray,
    reason: str,
) -> Selection:
    """Return picks that one rule made, each array (n,) in their order."""
    return Selection(
        tile_ids=ids,
        shard_ids=np.full(len(ids), ""),
        cluster=cluster,
        distance=distance,
        weight=weight,
        reason=np.full(len(ids), reason),
    )
