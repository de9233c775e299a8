"""Hierarchical k-means with resampling, which flattens the density of the clusters.

Vo et al. 2024 (arXiv 2405.15613), section 3.2 and appendix A:

    I_1 = all rows; I_t = centroids of level t - 1, unweighted
    for t = 1 .. T:  C = kmeans(I_t, k_t)
       m times:  R = the r members nearest to each centroid, or random ones
                 C = kmeans(R, k_t) from scratch;  assign all of I_t to C

In d dimensions the centroids of optimal k-means have a density of about p^a, a = d / (d + 2), where
the rows have p (Zador's theorem). Each level and each resampling applies that once more, so T
levels with m resamplings come to p^(a^(T (1 + m))).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.intrinsic_dimension import LEAST_ROWS, SAMPLE_ROWS, two_nn
from balancer.clustering.kmeans import ArrayRows, Say, fit, scale_of, silent
from balancer.clustering.lloyd import Rows, inertia_of
from balancer.clustering.members import local_members, merge_members
from balancer.config import ClusteringConfig
from balancer.seeding import derive_seed
from balancer.types import Clustering, FloatArray, IntArray

SHRINK = 4
"""Clusters of a level over those of the next, where `levels` are chosen."""
LEAST_TOP = 2
MAX_LEVELS = 3
MAX_RESAMPLINGS = 10
"""A resampling costs a pass over the rows; the paper uses 10 at most."""
MOST_MEMBERS = 8
"""Members that a cluster gives to a resampling at most, where `resample_rows` is absent: they are
clustered in one process."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a hierarchy is made of.

    Attributes:
        levels: clusters per level, finest first.
        resamplings: of every level.
        exponent: of the density, by the theory; NaN when the dimension was not needed.
    """

    levels: tuple[int, ...]
    resamplings: int
    exponent: float


def flattening_exponent(dimension: float, num_levels: int, resamplings: int) -> float:
    """Return the theory's exponent a^(T (1 + m)), a = d / (d + 2).

    >>> round(flattening_exponent(64, 4, 0), 2), round(flattening_exponent(64, 4, 10), 2)
    (0.88, 0.26)
    """
    rate = dimension / (dimension + 2) if math.isfinite(dimension) else 1.0
    return float(rate ** (num_levels * (1 + resamplings)))


def choose_levels(num_clusters: int) -> tuple[int, ...]:
    """Return clusters per level that shrink by `SHRINK`, `MAX_LEVELS` at most.

    >>> choose_levels(400), choose_levels(8), choose_levels(3)
    ((400, 100, 25), (8, 2), (3,))
    """
    levels = [num_clusters]
    while len(levels) < MAX_LEVELS and levels[-1] // SHRINK >= LEAST_TOP:
        levels.append(levels[-1] // SHRINK)
    return tuple(levels)


def plan_resamplings(levels: tuple[int, ...], dimension: float, target: float) -> Plan:
    """Choose the fewest resamplings whose exponent is at most `target`.

    There are `MAX_RESAMPLINGS` at most; the plan's exponent says what they come to.

    Args:
        levels: clusters per level.
        dimension: intrinsic, from `two_nn`.
        target: exponent in (0, 1).

    >>> plan_resamplings((400, 100, 25), 12.0, 0.3).resamplings
    2
    """
    resamplings = 0
    while (
        flattening_exponent(dimension, len(levels), resamplings) > target
        and resamplings < MAX_RESAMPLINGS
    ):
        resamplings += 1
    return Plan(levels, resamplings, flattening_exponent(dimension, len(levels), resamplings))


def fit_hierarchy(
    rows: Rows,
    num_clusters: int,
    *,
    config: ClusteringConfig,
    seed: int,
    fingerprint: str = "",
    say: Say = silent,
) -> Clustering:
    """Cluster rows into levels; the result's clusters are the finest, `ancestors` name the rest.

    The first level reads all rows where they lie. What it resamples, and all higher levels, are
    small and clustered here.

    Args:
        rows: where the rows are.
        num_clusters: of the finest level, where `config.levels` is absent.
        config: levels, resamplings and all of k-means. `max_skew` and `fit_rows` apply to a flat
            clustering only and are refused.
        seed: of this clustering.
        fingerprint: recorded in the result.
        say: told what a user should know, a line at a time.

    Raises:
        ValueError: `max_skew` or `fit_rows` is set, or there are fewer rows than clusters.

    Cost: 1 + m fits of the first level, of which m see r k_1 rows only, and 1 + m passes over all
    rows; r k_1 rows travel per resampling.
    """
    if config.max_skew is not None or config.fit_rows is not None:
        raise ValueError(
            "clustering.max_skew and clustering.fit_rows must be absent for a hierarchy, whose "
            "resampling decides the sizes. Leave them out, or use another strategy."
        )
    plan = _plan(rows, min(num_clusters, rows.num_rows), config, seed, say)
    if plan.levels[0] > rows.num_rows:
        raise ValueError(
            f"clustering.levels must begin with at most the {rows.num_rows} rows there are; got "
            f"{plan.levels[0]}. Lower it."
        )
    centroids = [fit_level(rows, plan.levels[0], plan.resamplings, config, derive_seed(seed, 1))]
    if plan.resamplings and (line := describe_resampling(rows.num_rows, plan, config)):
        say(line)
    for level, count in enumerate(plan.levels[1:], start=2):
        below = centroids[-1]
        numbered = ArrayRows(below, np.array([f"{number:09}" for number in range(len(below))]))
        own = derive_seed(seed, level)
        centroids.append(fit_level(numbered, count, plan.resamplings, config, own))
    ancestors: list[IntArray] = []
    for below, above in pairwise(centroids):
        parents, _ = assign(below, above)
        ancestors.append(parents[ancestors[-1]] if ancestors else parents)
    finest = centroids[0]
    scale = scale_of(rows, config)
    total = rows.sums(finest, scale)
    say(
        f"hierarchy: levels of {', '.join(map(str, plan.levels))} clusters; finest: largest "
        f"{int(total.counts.max())} rows, mean {rows.num_rows / len(finest):.1f}, "
        f"{int((total.counts == 0).sum())} empty"
    )
    return Clustering(
        finest,
        total.counts,
        inertia_of(total, scale),
        fingerprint,
        np.array(ancestors, dtype=np.int64).reshape(len(ancestors), len(finest)),
    )


def num_members(num_rows: int, num_clusters: int, config: ClusteringConfig) -> int:
    """Return r_t: how many members each cluster of a level gives to a resampling.

    Half the mean size at most, unless configured: of clusters that give all they have, nothing is
    flattened.

    >>> num_members(400, 100, ClusteringConfig()), num_members(9000, 100, ClusteringConfig())
    (2, 8)
    """
    if config.resample_rows is not None:
        return config.resample_rows
    return max(1, min(MOST_MEMBERS, num_rows // (2 * num_clusters)))


def describe_resampling(num_rows: int, plan: Plan, config: ClusteringConfig) -> str:
    """Return a warning for levels whose clusters are no larger than what they give; "" for none.

    There a resampling takes nearly all members, and the density of the level stays as it was.

    >>> plan = Plan((400, 100, 25), 2, 0.3)
    >>> describe_resampling(9000, plan, ClusteringConfig(resample_rows=4))[:81]
    'hierarchy: clustering.resample_rows (4) reaches the mean size of the clusters of '
    >>> describe_resampling(9000, plan, ClusteringConfig(resample_rows=3))
    ''
    """
    below = (num_rows, *plan.levels)
    means = [above / count for above, count in zip(below, plan.levels, strict=False)]
    full = [
        f"{level} ({mean:.1f})"
        for level, mean in enumerate(means, start=1)
        if config.resample_rows is not None and mean <= config.resample_rows
    ]
    if not full:
        return ""
    return (
        f"hierarchy: clustering.resample_rows ({config.resample_rows}) reaches the mean size of "
        f"the clusters of level {' and '.join(full)}, so resampling hardly flattens them; lower "
        f"it, or have fewer clusters there"
    )


def fit_level(
    rows: Rows, num_clusters: int, resamplings: int, config: ClusteringConfig, seed: int
) -> FloatArray:
    """Return the (K, D) centroids of one level: k-means, then `resamplings` times anew.

    Args:
        rows: I_t, the rows or the centroids of the level below.
        num_clusters: k_t.
        resamplings: m.
        config: of k-means; `resample_rows` is r_t (see `num_members`), `resample_rule` which.
        seed: of this level.
    """
    flat = config.model_copy(update={"levels": None, "num_clusters": None})
    centroids = fit(rows, num_clusters, config=flat, seed=seed).centroids
    for turn in range(resamplings):
        turn_seed = derive_seed(seed, "resample", turn)
        members_each = num_members(rows.num_rows, len(centroids), config)
        counts = np.full(len(centroids), members_each, dtype=np.int64)
        parts = rows.map_shards(local_members, centroids, counts, config.resample_rule, turn_seed)
        members = merge_members(parts, counts)
        chosen = ArrayRows(members.points, members.ids)
        centroids = fit(chosen, num_clusters, config=flat, seed=turn_seed).centroids
    return centroids


def _plan(rows: Rows, num_clusters: int, config: ClusteringConfig, seed: int, say: Say) -> Plan:
    """Return the configured plan, or one from the intrinsic dimension of a sample."""
    if config.levels is not None and config.resamplings is not None:
        return Plan(config.levels, config.resamplings, math.nan)
    _, sample = rows.sample(SAMPLE_ROWS, derive_seed(seed, "dimension"))
    # Rows that are all alike need no flattening.
    alike = len(np.unique(sample, axis=0)) < LEAST_ROWS
    dimension = 0.0 if alike else two_nn(sample)
    levels = config.levels or choose_levels(num_clusters)
    chosen = plan_resamplings(levels, dimension, config.target_exponent)
    if config.resamplings is not None:
        exponent = flattening_exponent(dimension, len(levels), config.resamplings)
        chosen = Plan(levels, config.resamplings, exponent)
    say(
        f"hierarchy: intrinsic dimension {dimension:.1f} (TwoNN, {len(sample)} rows); "
        f"{len(levels)} levels and {chosen.resamplings} resamplings flatten the density p "
        f"to about p^{chosen.exponent:.2f} (target {config.target_exponent})"
    )
    return chosen


def level_sizes(clustering: Clustering) -> list[IntArray]:
    """Return the rows under each cluster of every level, finest first.

    >>> two = np.zeros((2, 1), np.float32)
    >>> tree = Clustering(two, np.array([3, 4]), 0.0, "", np.array([[0, 0]]))
    >>> [sizes.tolist() for sizes in level_sizes(tree)]
    [[3, 4], [7]]
    """
    above = [
        np.bincount(nodes, weights=clustering.sizes).astype(np.int64)
        for nodes in clustering.ancestors
    ]
    return [clustering.sizes, *above]
