"""What a strategy may depend on beside the rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from balancer.config import (
    QuotasConfig,
    SelectionConfig,
    Strategy,
    Within,
    can_trim,
    can_weigh,
)
from balancer.selection.included import no_ids
from balancer.types import Clustering, IdArray


@dataclass(frozen=True, slots=True)
class Settings:
    """What a strategy may depend on beside the rows.

    Attributes:
        seed: of this selection.
        within: rule inside a cluster for `per-cluster` and `hierarchical`.
        global_share: share of the budget that `hybrid` and others pick over the whole pool.
        epsilon: for `composable-epsilon`.
        coreset_rows: likewise; most rows of one shard's coreset.
        clustering: needed by the strategies in `CLUSTERED`.
        include: (m,) ids that must be picked, in their order.
        quality_column: name of the column that multiplies the distances of farthest-point.
        num_outliers: z rows that `farthest-point` leaves out.
        quotas: how the clusters, and metadata columns, share the budget.
        facility_power: for `facility-location` and `facility-medoid`.
        density_exponent: for `inverse-density`.
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
    quotas: QuotasConfig = field(default_factory=QuotasConfig)
    facility_power: float = 2.0
    density_exponent: float = 1.0

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
            config.quotas,
            config.facility_power,
            config.density_exponent,
        )

    def for_comparison(self, strategy: Strategy) -> Settings:
        """Return the settings for another strategy: without what means nothing for it."""
        return replace(
            self,
            quality_column=self.quality_column if can_weigh(strategy, self.within) else None,
            num_outliers=self.num_outliers if can_trim(strategy) else 0,
        )
