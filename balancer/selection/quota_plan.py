"""From quotas to counts: how much each cluster, or each cell of several axes, gives.

Without metadata columns the cells are the clusters and the allocation is exact
(`balancer.selection.quotas`). With columns each axis first gets the sums that its own rows allow;
cells are fitted to all sums at once (`proportional_fitting`), rounded to whole numbers that meet
them (`controlled_rounding`), and what could not be reached is said (`feasibility`).

Floors of single cells (tiles that must be included) always hold, also above a cap or a share: the
clusters and values first get at least their floors, and the cells share what is left above theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from balancer.config import AxisRule, QuotasConfig
from balancer.seeding import derive_seed
from balancer.selection.controlled_rounding import round_to_margins
from balancer.selection.feasibility import CLUSTERS, Axis, Limits, describe_shortfalls
from balancer.selection.hierarchical_quotas import hierarchical_quota
from balancer.selection.proportional_fitting import Margin, fit_margins
from balancer.selection.quotas import Box, allocate, fill, limits
from balancer.selection.strata import cluster_strata, count_strata, merge_strata
from balancer.types import Allocation, Clustering, DoubleArray, IntArray, Strata

T = TypeVar("T")

LEAST_PRIOR = 1e-6
"""Of a cell that has reached its floor: it gets more only where no other cell can."""


class Countable(Protocol):
    """What counting needs of a pool; see `balancer.selection.pool.Pool.map_shards`."""

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """Return `local(rows, *arguments)` of every shard."""


@dataclass(frozen=True, slots=True)
class ClusterShares:
    """What the clusters give by themselves.

    Attributes:
        box: limits.
        given: (K,) least because of the floors of cells.
        weights: (K,) by the rule; None: equal.
        counts: (K,) what they give.
        notes: sentences about what was not reached.
    """

    box: Box
    given: IntArray
    weights: DoubleArray | None
    counts: IntArray
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a column shares a total: its rule, the total, how often rows count, order of values."""

    rule: AxisRule
    total: int
    repeats: int
    seed: int


def find_strata(pool: Countable, clustering: Clustering, quotas: QuotasConfig) -> Strata:
    """Return the strata that quotas are kept in: the clusters, or cells of them and the columns.

    Raises:
        ConfigError: a column with too many values.

    Cost: without axes none; with axes one assignment of all rows.
    """
    if not quotas.axes:
        return cluster_strata(clustering.sizes)
    columns = tuple(quotas.axes)
    return merge_strata(pool.map_shards(count_strata, clustering.centroids, columns))


def plan_quotas(
    pool: Countable,
    clustering: Clustering,
    budget: int,
    quotas: QuotasConfig,
    *,
    seed: int,
    floors: IntArray | None = None,
) -> Allocation:
    """Decide how much each stratum gives: `share_strata` of `find_strata`.

    Args:
        pool: counted only where `quotas.axes` names columns.
        clustering: with sizes.
        budget: tiles shown, repetitions counted.
        quotas: the rules.
        seed: orders strata for remainders.
        floors: (S,) least per stratum, such as must-include tiles; none when absent.

    Raises:
        ValueError: `floors` beyond the sizes, or the budget.
        ConfigError: a column with too many values.
    """
    strata = find_strata(pool, clustering, quotas)
    return share_strata(strata, budget, quotas, clustering.num_clusters, seed=seed, floors=floors)


def share_strata(
    strata: Strata,
    budget: int,
    quotas: QuotasConfig,
    num_clusters: int,
    *,
    seed: int,
    floors: IntArray | None = None,
) -> Allocation:
    """Share a budget over strata.

    Args:
        strata: with their sizes.
        budget: tiles shown, repetitions counted.
        quotas: the rules.
        num_clusters: K.
        seed: orders strata for remainders.
        floors: (S,) least per stratum beside `quotas.floor` per cluster; none when absent.

    Returns:
        The allocation; its `report` says what was not reached. Rates are counts over sizes.

    Raises:
        ValueError: `floors` beyond the sizes, or the budget.

    Cost: without axes O(K log K); with axes fitting and rounding S cells: 0.1 s for 46,000 cells of
        two columns, 1 to 3 s for 460,000; twice the fitting with floors. Where the axes contradict
        each other, a linear programme of all cells: seconds for 46,000.

    >>> strata = cluster_strata(np.array([100, 3, 50]))
    >>> floors = np.array([16, 0, 0])
    >>> share_strata(strata, 23, QuotasConfig(cap=12), 3, seed=0, floors=floors).counts
    array([16,  3,  4])
    """
    least = np.zeros(len(strata), np.int64) if floors is None else floors
    if (least > strata.sizes).any() or least.sum() > budget:
        raise ValueError(
            f"floors must not exceed the sizes of the strata, nor the budget of {budget} together; "
            f"got {least} for {strata.sizes}."
        )
    sizes, given = (
        np.bincount(strata.cluster, values, minlength=num_clusters).astype(np.int64)
        for values in (strata.sizes, least)
    )
    own = _cluster_shares(sizes, budget, quotas, seed, given)
    axes = [_cluster_axis(own, sizes, strata.cluster, budget)]
    if not strata.columns:
        return _allocation(strata, own.counts, own.box.high, axes, own.notes, budget, quotas)
    total, notes = int(own.counts.sum()), own.notes
    for place, (column, rule) in enumerate(quotas.axes.items()):
        shares = Rule(rule, total, quotas.repeats, derive_seed(seed, column))
        axis, more = _column_axis(strata, place, shares, least)
        axes.append(axis)
        notes += more
    most = strata.sizes * quotas.repeats
    prior = np.maximum(strata.sizes, 1).astype(np.float64) ** quotas.alpha
    counts = _fit(prior, most, [axis.margin for axis in axes], own.box, least)
    return _allocation(strata, counts, most, axes, notes, budget, quotas)


def share_levels(
    strata: Strata, clustering: Clustering, budget: int, *, seed: int, floors: IntArray
) -> Allocation:
    """Share a budget over the finest clusters of a hierarchy, from the top down.

    Args:
        strata: the finest clusters.
        clustering: with its ancestors.
        budget: tiles to pick.
        seed: orders clusters for remainders.
        floors: (K,) least per cluster.

    Raises:
        ValueError: `floors` beyond the sizes, or the budget.

    Cost: see `balancer.selection.hierarchical_quotas`.
    """
    quota = hierarchical_quota(strata.sizes, clustering.ancestors, budget, seed=seed, floors=floors)
    return Allocation(strata, quota.counts, quota.counts / np.maximum(1, strata.sizes))


def _fit(
    prior: DoubleArray, most: IntArray, margins: list[Margin], first: Box, least: IntArray
) -> IntArray:
    """Fit whole numbers to the sums, each cell at least at its floor."""
    shares = fit_margins(prior, most, margins).shares
    if not least.any():
        return round_to_margins(shares, most, margins, first)
    left = [Margin(m.codes, m.targets - m.sums(least).astype(np.int64)) for m in margins]
    of_first = margins[0].sums(least).astype(np.int64)
    box = Box(np.maximum(0, first.low - of_first), first.high - of_first)
    above = fit_margins(np.maximum(shares - least, LEAST_PRIOR), most - least, left).shares
    return least + round_to_margins(above, most - least, left, box)


def _cluster_shares(
    sizes: IntArray, budget: int, quotas: QuotasConfig, seed: int, given: IntArray
) -> ClusterShares:
    # Rows that must be included stay, also above the cap and above the floors.
    caps = None if quotas.cap is None else np.maximum(quotas.cap, given)
    most = limits(sizes, repeats=quotas.repeats, caps=caps).high
    notes = []
    if quotas.cap is not None and (over := int((given > quotas.cap).sum())):
        notes.append(
            f"cap: {over} of {len(sizes)} clusters give more than the cap of {quotas.cap}, because "
            f"more of their tiles must be included."
        )
    low = np.maximum(np.minimum(most, quotas.floor), given)
    if (asked := int(low.sum())) > budget:
        # The floors above what must be included share what is left.
        low = given + allocate(low - given, budget - int(given.sum()), seed=seed).counts
        notes.append(f"floor: {int(low.sum())} of {asked} reached, because the budget is {budget}.")
    counts = allocate(
        sizes,
        budget,
        alpha=quotas.alpha,
        repeats=quotas.repeats,
        floors=low,
        caps=caps,
        seed=seed,
    ).counts
    weights = sizes.astype(np.float64) ** quotas.alpha if quotas.alpha else None
    return ClusterShares(Box(low, most), given, weights, counts, tuple(notes))


def _cluster_axis(own: ClusterShares, sizes: IntArray, codes: IntArray, budget: int) -> Axis:
    weights = np.ones(len(sizes)) if own.weights is None else own.weights
    wanted = _wanted(weights, budget, own.given)
    return Axis(CLUSTERS, (), sizes, wanted, Margin(codes, own.counts))


def _column_axis(
    strata: Strata, place: int, shares: Rule, least: IntArray
) -> tuple[Axis, tuple[str, ...]]:
    rule, column = shares.rule, strata.columns[place]
    present, codes = np.unique(strata.values[:, place], return_inverse=True)
    names = present.tolist()
    if isinstance(rule, dict):
        names += [name for name in rule if name not in set(names)]
    sizes, floors = (
        np.bincount(codes, values, minlength=len(names)).astype(np.int64)
        for values in (strata.sizes, least)
    )
    weights = _weights(rule, names, sizes)
    box = limits(sizes, repeats=shares.repeats, floors=floors)
    equal = rule == "uniform"
    targets = fill(None if equal else weights, shares.total, box, seed=shares.seed).counts
    alone = shares.total * weights / weights.sum()
    notes = tuple(
        f"{column}={names[value]}: {floors[value]} tiles must be included, more than its share of "
        f"{alone[value]:.0f}."
        for value in np.flatnonzero(floors > np.ceil(alone)).tolist()
    )
    wanted = _wanted(weights, shares.total, floors)
    return Axis(column, names, sizes, wanted, Margin(codes, targets)), notes


def _wanted(weights: DoubleArray, total: int, floors: IntArray) -> DoubleArray:
    """Return shares of a total in proportion to weights, but for those whose floor is greater."""
    bound = np.zeros(len(weights), np.bool_)
    while True:
        free = np.where(bound, 0.0, weights)
        rest = total - floors[bound].sum()
        wanted = np.where(bound, floors, rest * free / max(1e-300, free.sum()))
        more = ~bound & (floors > wanted)
        if not more.any():
            return wanted
        bound |= more


def _weights(rule: AxisRule, names: list[str], sizes: IntArray) -> DoubleArray:
    if isinstance(rule, dict):
        unnamed = [name for name in names if name not in rule]
        rest = max(0.0, 1 - sum(rule.values()))
        each = rest / len(unnamed) if unnamed and rest > 1e-9 else 0.0
        return np.array([rule.get(name, each) for name in names], dtype=np.float64)
    if rule == "uniform":
        return np.ones(len(names))
    assert not isinstance(rule, str)
    shares: DoubleArray = sizes.astype(np.float64) ** rule
    return shares


def _allocation(
    strata: Strata,
    counts: IntArray,
    most: IntArray,
    axes: list[Axis],
    notes: tuple[str, ...],
    budget: int,
    quotas: QuotasConfig,
) -> Allocation:
    report = notes + describe_shortfalls(
        counts, most, axes, Limits(budget, quotas.cap, quotas.repeats)
    )
    rates = counts / np.maximum(1, strata.sizes)
    return Allocation(strata, counts, rates, quotas.repeats, report)
