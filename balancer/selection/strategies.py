"""The named strategies: how a budget of tiles is picked from a pool.

Each strategy is a function `(pool, budget, settings) -> Selection`; `STRATEGIES` names them. They
see the rows only through `Pool`, so a plain array and shards on many workers give the same picks.

For all of them: excluded rows are not in the pool. Included tiles come first, with the reason
`include`, count against the budget and their stratum's quota, and are never picked again; what is
picked by distance starts from them. Quality multiplies the distances of farthest-point, and
outliers are left out by it; strategies for which these mean nothing refuse them.
"""

from __future__ import annotations

from collections.abc import Callable

from balancer.config import Strategy, can_trim, can_weigh
from balancer.selection.clustered_strategies import (
    select_hierarchical,
    select_hybrid,
    select_per_cluster,
)
from balancer.selection.plain_strategies import (
    select_composable,
    select_composable_epsilon,
    select_farthest_point,
    select_random,
)
from balancer.selection.pool import Pool
from balancer.selection.recipes import (
    select_facility_location,
    select_facility_medoid,
    select_hybrid_medoid,
    select_inverse_density,
    select_medoid,
)
from balancer.selection.settings import Settings
from balancer.types import Selection

STRATEGIES: dict[Strategy, Callable[[Pool, int, Settings], Selection]] = {
    "random": select_random,
    "farthest-point": select_farthest_point,
    "per-cluster": select_per_cluster,
    "hierarchical": select_hierarchical,
    "hybrid": select_hybrid,
    "composable": select_composable,
    "composable-epsilon": select_composable_epsilon,
    "medoid": select_medoid,
    "hybrid-medoid": select_hybrid_medoid,
    "facility-location": select_facility_location,
    "facility-medoid": select_facility_medoid,
    "inverse-density": select_inverse_density,
}

CLUSTERED: frozenset[Strategy] = frozenset(
    {"per-cluster", "hierarchical", "hybrid", "hybrid-medoid"}
)
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
            f"quality could multiply. Use farthest-point, hybrid, or per-cluster or "
            f"hierarchical with farthest-point inside."
        )
    if settings.num_outliers and not can_trim(strategy):
        raise ValueError(
            f"num_outliers must be 0 for {strategy}, which leaves none out. Use farthest-point."
        )
