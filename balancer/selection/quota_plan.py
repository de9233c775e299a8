"""From quotas to counts: how much each cluster, or each cell of several axes, gives.

Without metadata columns the cells are the clusters and the allocation is exact
(`balancer.selection.quotas`). With columns each axis first gets the sums that its own rows allow;
cells are fitted to all sums at once (`proportional_fitting`), rounded to whole numbers that meet
them (`controlled_rounding`), and what could not be reached is said (`feasibility`).
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
from balancer.selection.proportional_fitting import Margin, fit_margins
from balancer.selection.quotas import Box, allocate, fill, limits
from balancer.selection.strata import cluster_strata, count_strata, merge_strata
from balancer.types import Allocation, Clustering, DoubleArray, IntArray, Strata

T = TypeVar("T")


class Countable(Protocol):
    """What counting needs of a pool; see `balancer.selection.pool.Pool.map_shards`."""

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """Return `local(rows, *arguments)` of every shard."""


@dataclass(frozen=True, slots=True)
class ClusterShares:
    """What the clusters give by themselves: limits, weights (None: equal) and counts."""

    box: Box
    weights: DoubleArray | None
    counts: IntArray
    notes: tuple[str, ...]


def plan_quotas(
    pool: Countable,
    clustering: Clustering,
    budget: int,
    quotas: QuotasConfig,
    *,
    seed: int,
    floors: IntArray | None = None,
) -> Allocation:
    """Decide how much each stratum gives.

    Args:
        pool: counted only where `quotas.axes` names columns.
        clustering: with sizes.
        budget: tiles shown, repetitions counted.
        quotas: the rules.
        seed: orders strata for remainders.
        floors: (K,) least per cluster beside `quotas.floor`, such as must-include tiles.

    Returns:
        The allocation; its `report` says what was not reached. Rates are counts over sizes.

    Raises:
        ValueError: `floors` beyond the budget.
        ConfigError: a column with too many values.

    Cost: without axes O(K log K); with axes one assignment of all rows, then fitting and rounding
        S cells: about a second for 10,000 cells of one column, half a minute for 50,000 of two.
    """
    if not quotas.axes:
        strata = cluster_strata(clustering.sizes)
        own = _cluster_shares(strata.sizes, budget, quotas, seed, floors)
        axis = _cluster_axis(own, strata.sizes, np.arange(len(strata)), budget)
        return _allocation(strata, own.counts, own.box.high, [axis], own, budget, quotas)
    columns = tuple(quotas.axes)
    strata = merge_strata(pool.map_shards(count_strata, clustering.centroids, columns))
    sizes = np.bincount(strata.cluster, strata.sizes, minlength=clustering.num_clusters).astype(
        np.int64
    )
    own = _cluster_shares(sizes, budget, quotas, seed, floors)
    total = int(own.counts.sum())
    axes = [_cluster_axis(own, sizes, strata.cluster, budget)]
    for place, (column, rule) in enumerate(quotas.axes.items()):
        axes.append(
            _column_axis(strata, place, rule, total, quotas.repeats, derive_seed(seed, column))
        )
    most = strata.sizes * quotas.repeats
    margins = [axis.margin for axis in axes]
    prior = np.maximum(strata.sizes, 1).astype(np.float64) ** quotas.alpha
    fitted = fit_margins(prior, most, margins)
    counts = round_to_margins(fitted.shares, most, margins, own.box)
    return _allocation(strata, counts, most, axes, own, budget, quotas)


def _cluster_shares(
    sizes: IntArray, budget: int, quotas: QuotasConfig, seed: int, floors: IntArray | None
) -> ClusterShares:
    most = limits(sizes, repeats=quotas.repeats, caps=quotas.cap).high
    low = np.minimum(most, quotas.floor)
    given = np.zeros_like(most) if floors is None else np.minimum(floors, most)
    notes = []
    low = np.maximum(low, given)
    if (asked := int(low.sum())) > budget >= int(given.sum()):
        # What must be included stays; the floors above it share what is left.
        low = given + allocate(low - given, budget - int(given.sum()), seed=seed).counts
        notes.append(f"floor: {int(low.sum())} of {asked} reached, because the budget is {budget}.")
    counts = allocate(
        sizes,
        budget,
        alpha=quotas.alpha,
        repeats=quotas.repeats,
        floors=low,
        caps=quotas.cap,
        seed=seed,
    ).counts
    weights = sizes.astype(np.float64) ** quotas.alpha if quotas.alpha else None
    return ClusterShares(Box(low, most), weights, counts, tuple(notes))


def _cluster_axis(own: ClusterShares, sizes: IntArray, codes: IntArray, budget: int) -> Axis:
    weights = np.ones(len(sizes)) if own.weights is None else own.weights
    wanted = budget * weights / max(1e-300, weights.sum())
    return Axis(CLUSTERS, (), sizes, wanted, Margin(codes, own.counts))


def _column_axis(
    strata: Strata, place: int, rule: AxisRule, total: int, repeats: int, seed: int
) -> Axis:
    present, codes = np.unique(strata.values[:, place], return_inverse=True)
    names = present.tolist()
    if isinstance(rule, dict):
        names += [name for name in rule if name not in set(names)]
    sizes = np.bincount(codes, strata.sizes, minlength=len(names)).astype(np.int64)
    weights = _weights(rule, names, sizes)
    box = limits(sizes, repeats=repeats)
    equal = rule == "uniform"
    targets = fill(None if equal else weights, total, box, seed=seed).counts
    wanted = total * weights / weights.sum()
    return Axis(strata.columns[place], names, sizes, wanted, Margin(codes, targets))


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
    own: ClusterShares,
    budget: int,
    quotas: QuotasConfig,
) -> Allocation:
    report = own.notes + describe_shortfalls(
        counts, most, axes, Limits(budget, quotas.cap, quotas.repeats)
    )
    rates = counts / np.maximum(1, strata.sizes)
    return Allocation(strata, counts, rates, quotas.repeats, report)
