"""The sections of the configuration that say how tiles are clustered and picked."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from balancer.config_deduplicate import DeduplicateConfig
from balancer.config_fields import Fraction, Number, PositiveInt, Section, Text, Uri
from balancer.errors import ConfigError

Strategy = Literal[
    "random",
    "farthest-point",
    "per-cluster",
    "hierarchical",
    "hybrid",
    "composable",
    "composable-epsilon",
    "medoid",
    "hybrid-medoid",
    "facility-location",
    "facility-medoid",
    "inverse-density",
]
Seeding = Literal["k-means++", "k-means||", "farthest-point", "random"]
Within = Literal["random", "nearest", "farthest-point", "medoid"]
FilterName = Literal[
    "blas",
    "fastest",
    "torch",
    "torch-tf32",
    "torch-bfloat16",
    "torch-cuda",
    "torch-cuda-tf32",
    "torch-cuda-bfloat16",
    "triton",
    "triton-tf32",
    "triton-bfloat16",
    "faiss",
    "faiss-gpu",
]
"""What farthest-point rules pairs out with before it measures them on a CPU: see
`balancer.selection.filters`."""
Device = Annotated[Text, Field(pattern=r"^(auto|(cpu|cuda)(:[0-9]+)?)$")]
ENGINE_KEYS = {"device", "filter"}
"""Keys of `SelectionConfig` that no pick depends on."""
AxisRule = Literal["uniform"] | Fraction | dict[str, Fraction]
"""How the budget is shared over the values of a column: equally; in proportion to their numbers to
the power alpha; or by given shares, what they leave of 1 equally over the values they do not name.
"""
MOST_OUTLIERS = 10_000
"""Outliers to leave out at most: the coordinator of farthest-point holds as many rows."""


class ClusteringConfig(Section):
    """Distributed k-means, flat or in levels."""

    num_clusters: PositiveInt | None = None
    """From the budget when absent: see `balancer.clustering.kmeans.default_num_clusters`."""
    iterations: PositiveInt = 20
    tolerance: Annotated[Number, Field(ge=0)] = 1e-4
    """Stop when the inertia falls by less than this share in an iteration."""
    init: Seeding = "k-means++"
    """How first centroids are found: `k-means++`, `farthest-point` or `random` on a seeded sample,
    or `k-means||` on all rows."""
    seeds_per_cluster: PositiveInt = 16
    """Rows per cluster that first centroids are drawn from."""
    sample_per_cluster: PositiveInt = 64
    """Rows per cluster in the seeded sample on which they are improved before all rows are read."""
    sample_iterations: Annotated[int, Field(ge=0)] = 3
    """Iterations on that sample, where there are at least twice as many rows."""
    spherical: bool = False
    """Centroids of unit length, for L2-normalised rows."""
    max_skew: Annotated[Number, Field(gt=1)] | None = None
    """Split clusters of more than this many times the mean size (rows / K); K grows."""
    fit_rows: PositiveInt | None = None
    """Iterate on a sample of this many rows only; sizes and assignments are those of all rows."""
    levels: Annotated[tuple[PositiveInt, ...], Field(strict=False)] | None = None
    """Clusters per level, finest first, for the strategy `hierarchical`; see `target_exponent`."""
    resamplings: Annotated[int, Field(ge=0)] | None = None
    """Times that each level is resampled and clustered anew."""
    resample_rows: PositiveInt | None = None
    """Members that a cluster gives to a resampling; when absent 8, or half the mean size of a
    level's clusters where that is less."""
    resample_rule: Literal["nearest", "random"] = "random"
    """Which members: those nearest to the centroid, or any. The theory is of any members; the
    nearest ones lie so close together that clusters stay where they were."""
    target_exponent: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """Levels and resamplings that are absent are chosen from the intrinsic dimension so that the
    density of centroids is about the archive's density to this power."""

    @model_validator(mode="after")
    def _check(self) -> ClusteringConfig:
        levels = self.levels or ()
        if self.levels is not None and (not levels or any(a <= b for a, b in pairwise(levels))):
            raise ValueError(f"levels must be numbers of clusters that fall; got {list(levels)}")
        if levels and self.num_clusters is not None and self.num_clusters != levels[0]:
            raise ValueError(
                f"num_clusters must be the first of levels ({levels[0]}) or absent; got "
                f"{self.num_clusters}"
            )
        if self.sample_per_cluster < self.seeds_per_cluster:
            raise ValueError(
                f"sample_per_cluster must be at least seeds_per_cluster "
                f"({self.seeds_per_cluster}); got {self.sample_per_cluster}"
            )
        return self


def can_weigh(strategy: Strategy, within: Within) -> bool:
    """Return whether a quality column means something for a strategy.

    >>> can_weigh("per-cluster", "random")
    False
    """
    inside = strategy in ("per-cluster", "hierarchical") and within == "farthest-point"
    return inside or strategy in ("farthest-point", "hybrid")


def can_trim(strategy: Strategy) -> bool:
    """Return whether leaving out outliers means something for a strategy.

    Not for `hybrid`: its per-cluster part would pick the tiles that its global part leaves out.

    >>> can_trim("hybrid")
    False
    """
    return strategy == "farthest-point"


class QuotasConfig(Section):
    """How the budget is shared over clusters, and over metadata columns at the same time."""

    alpha: Fraction = 0.0
    """Clusters give in proportion to size ** alpha: 0 equally, 1 as in the archive."""
    cap: PositiveInt | None = None
    """Most that a cluster gives; no limit when absent."""
    floor: Annotated[int, Field(ge=0)] = 0
    """Least that a cluster gives, as far as it has tiles."""
    repeats: PositiveInt = 1
    """How often a tile may count; above 1 the manifest has the column `repeats`."""
    axes: dict[str, AxisRule] = Field(default_factory=dict)
    """Rule by metadata column: `uniform`, an exponent alpha, or shares by value."""

    @model_validator(mode="after")
    def _check(self) -> QuotasConfig:
        if self.cap is not None and self.cap < self.floor:
            raise ValueError(f"cap must be at least floor ({self.floor}); got {self.cap}")
        for column, rule in self.axes.items():
            if isinstance(rule, dict) and not 0 < sum(rule.values()) <= 1 + 1e-9:
                raise ValueError(
                    f"the shares of {column} must add up to more than 0 and at most 1; got "
                    f"{sum(rule.values()):g}"
                )
        return self


class SelectionConfig(Section):
    """How many tiles to pick, and by which rule."""

    budget: Annotated[Number, Field(gt=0)]
    """A whole number of tiles, or a share of the archive when below 1."""
    strategy: Strategy = "hybrid-medoid"
    """See `balancer.selection.STRATEGIES`; the default closed most of the gap to labels."""
    within: Within = "farthest-point"
    """Rule inside a cluster, for `per-cluster`."""
    global_share: Fraction = 0.25
    """Share of the budget that `hybrid`, `hybrid-medoid` and `facility-medoid` pick by
    farthest-point over the whole archive."""
    epsilon: Annotated[Number, Field(gt=0)] = 0.5
    """For `composable-epsilon`: the radius is at most 2 + epsilon times the optimum."""
    coreset_rows: PositiveInt | None = None
    """For `composable-epsilon`: most rows a shard sends; when absent, all shards together 1 GiB."""
    fallback: Strategy | None = None
    """Used instead of `strategy` in a round whose embedding diverse picks cannot be trusted with,
    by its health; when absent the run only warns."""
    fallback_within: Within = "random"
    """Rule inside a cluster, for `fallback: per-cluster`."""
    include: Uri | None = None
    """File with the ids of tiles that must be picked: text, CSV or Parquet, column `tile_id`."""
    exclude: Uri | None = None
    """File with the ids of tiles that must not be picked; they are trained on all the same."""
    quality_column: Text | None = None
    """Metadata column of numbers above 0 that multiply the distances of farthest-point."""
    num_outliers: Annotated[int, Field(ge=0, le=MOST_OUTLIERS)] = 0
    """For `farthest-point`: leave out this many tiles that are farthest from all others."""
    deduplicate: DeduplicateConfig | None = None
    """Drop near-duplicates before clustering and selection; off when absent."""
    quotas: QuotasConfig = QuotasConfig()
    """For `per-cluster`, and the per-cluster part of `hybrid`."""
    facility_power: Annotated[Number, Field(gt=0, le=64)] = 2.0
    """For `facility-location` and `facility-medoid`: the power of the distance. 2 follows the
    density, more evens it out and needs a better embedding."""
    density_exponent: Annotated[Number, Field(ge=0)] = 1.0
    """For `inverse-density`: 0 samples uniformly, 1 in inverse proportion to the density."""
    device: Device = "auto"
    """Where farthest-point keeps its rows and bounds: `cpu`, or `cuda`. `auto` is the GPU of a
    worker that has one, else the CPU. No pick depends on it."""
    filter: FilterName = "blas"
    """What rules pairs out on a CPU before they are measured; with another one than `blas`, the
    device `auto` is the CPU. No pick depends on it."""

    @model_validator(mode="after")
    def _check_engine(self) -> SelectionConfig:
        if self.filter != "blas" and self.device not in ("auto", "cpu"):
            raise ValueError(
                f"filter must be blas on the device {self.device}, which has a filter of its own; "
                f"got {self.filter}. Leave it out, or set device: cpu"
            )
        return self

    @model_validator(mode="after")
    def _check_fallback(self) -> SelectionConfig:
        clustered = self.strategy == "per-cluster"
        if self.fallback == self.strategy and not (
            clustered and self.within != self.fallback_within
        ):
            raise ValueError(
                f"fallback must be another rule than the strategy, or it would change nothing; "
                f"got {self.fallback!r} for both. Change it, or fallback_within"
            )
        if self.fallback is None:
            return self
        weighs = self.quality_column is None or can_weigh(self.fallback, self.fallback_within)
        if not weighs or (self.num_outliers and not can_trim(self.fallback)):
            raise ValueError(
                f"fallback must be able to do what is asked of the strategy; {self.fallback} has "
                f"no use for quality_column or num_outliers. Leave them out, or the "
                f"fallback"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> SelectionConfig:
        if self.quotas != QuotasConfig() and self.strategy not in ("per-cluster", "hybrid"):
            raise ValueError(
                f"quotas belong to the strategies per-cluster and hybrid; got {self.strategy}. "
                f"Set selection.strategy to one of them"
            )
        if self.budget >= 1 and self.budget != int(self.budget):
            raise ValueError(
                f"budget must be a whole number of tiles, or a share below 1; got {self.budget}"
            )
        if self.coreset_rows is not None and self.coreset_rows < self.budget:
            raise ValueError(
                f"coreset_rows must be at least the budget ({self.budget:.0f}), because a shard "
                f"sends that many rows; got {self.coreset_rows}. Raise it, or leave it out"
            )
        if self.quality_column is not None and not can_weigh(self.strategy, self.within):
            raise ValueError(
                f"quality_column must be absent for the strategy {self.strategy}, which measures "
                f"no distances that it could multiply; use farthest-point, hybrid, or per-cluster "
                f"within farthest-point"
            )
        if self.num_outliers and not can_trim(self.strategy):
            raise ValueError(
                f"num_outliers must be 0 for the strategy {self.strategy}, which leaves none out; "
                f"use farthest-point"
            )
        return self

    def resolve(self, num_tiles: int, *, pool: str = "the archive's readable tiles") -> int:
        """Return the budget as a number of tiles.

        Args:
            num_tiles: how many there are.
            pool: what they are, for the message.

        Raises:
            ConfigError: there are fewer tiles than the budget.
        """
        budget = int(self.budget) if self.budget >= 1 else max(1, round(self.budget * num_tiles))
        if budget > num_tiles:
            raise ConfigError(
                f"selection.budget must not exceed {pool} ({num_tiles}); got {budget}. Lower the "
                f"budget, or add to what it is picked from."
            )
        return budget
