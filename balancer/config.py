"""The configuration tree of a run: strict sections with defaults, and a fingerprint.

`balancer.config_file` reads it from YAML. Credentials come from the environment, never from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from balancer.config_deduplicate import DeduplicateConfig
from balancer.config_fields import Fraction, Number, PositiveInt, Section, Text, Triple, Uri
from balancer.config_pruning import PruningConfig
from balancer.errors import ConfigError

Strategy = Literal[
    "random",
    "farthest-point",
    "per-cluster",
    "hierarchical",
    "hybrid",
    "composable",
    "composable-epsilon",
]
Seeding = Literal["k-means++", "k-means||", "farthest-point", "random"]
Within = Literal["random", "nearest", "farthest-point", "medoid"]
AxisRule = Literal["uniform"] | Fraction | dict[str, Fraction]
"""How the budget is shared over the values of a column: equally; in proportion to their numbers to
the power alpha; or by given shares, what they leave of 1 equally over the values they do not name.
"""
ArchiveFormat = Literal["auto", "folder", "zip", "webdataset", "parquet"]
EncoderKind = Literal["simclr", "autoencoder", "frozen"]
Start = Literal["previous", "scratch"]
Augmentation = Literal["batched", "lightly"]
MOST_OUTLIERS = 10_000
"""Outliers to leave out at most: the coordinator of farthest-point holds as many rows."""
UNFINGERPRINTED: dict[str, Any] = {
    "out": True,
    "ray": True,
    "storage": True,
    "archive": {"max_bad_fraction"},
    "embedding": {"num_workers"},
    "training": {"checkpoint_every"},
}
"""Keys that no result depends on: they may change when a run is continued."""


class LongTailConfig(Section):
    """An artificially long-tailed pool of a labeled archive, for measuring only.

    Class c of C, in a seeded random order of the classes, keeps
    round(largest * imbalance ** (-c / (C - 1))) tiles, at least one. Before that, `holdout` tiles
    of every class are set aside as a balanced test set and never enter the pool.
    """

    imbalance: Annotated[Number, Field(ge=1.0)] = 10.0
    largest: PositiveInt = 80
    holdout: Annotated[int, Field(ge=0)] = 20
    seed: int = 0


class ArchiveConfig(Section):
    """Where the tiles are and how to read them."""

    uri: Uri
    format: ArchiveFormat = "auto"
    label_column: str | None = None
    """Metadata column used for measuring only; `folder` names are read as the column `label`."""
    id_column: str = "tile_id"
    image_column: str = "image"
    tiles_per_shard: PositiveInt = 1024
    """Logical shard size for folders and zips; a tar or Parquet file is always one shard."""
    max_bad_fraction: Fraction = 0.01
    long_tail: LongTailConfig | None = None


class EncoderConfig(Section):
    """The network that turns a tile into a vector."""

    kind: EncoderKind = "simclr"
    backbone: str = "small-conv"
    """`small-conv`, `resnet18`, `resnet50`, `timm:NAME`, or `factory`."""
    width: PositiveInt = 32
    """Channels of the first layer of `small-conv`."""
    factory: str | None = None
    """`package.module:function` or `/path/file.py:function`, returning an `nn.Module`."""
    factory_kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    """`pretrained` (torchvision / timm download), or the path or URI of a weights file."""
    image_size: Annotated[int, Field(ge=8, le=2048)] = 64
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        known = self.backbone in {"small-conv", "resnet18", "resnet50", "factory"}
        if not known and not self.backbone.startswith("timm:"):
            raise ValueError(
                f"backbone must be small-conv, resnet18, resnet50, timm:NAME or factory; "
                f"got {self.backbone!r}"
            )
        if (self.backbone == "factory") != (self.factory is not None):
            raise ValueError("backbone: factory and factory: MODULE:FUNCTION belong together")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive; got {self.std}")
        if self.kind == "frozen" and self.backbone != "factory" and self.weights is None:
            raise ValueError(
                "kind: frozen needs weights (pretrained, a path or a URI) or a factory, because an "
                "untrained network cannot be trusted to embed"
            )
        return self


class TrainingConfig(Section):
    """Self-supervised training under Ray Train."""

    epochs: PositiveInt = 10
    """Epochs of round 0."""
    later_epochs: PositiveInt | None = None
    """Epochs of the rounds after it, on the previous manifest; as `epochs` when absent."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-4
    temperature: Annotated[Number, Field(gt=0)] = 0.2
    projection_dim: PositiveInt = 64
    augmentation: Augmentation = "batched"
    """`batched`: lightly's distribution as whole-batch tensor operations, on any device;
    `lightly`: lightly's own transform, one image at a time."""
    crop_min_scale: Annotated[Number, Field(gt=0, le=1)] = 0.3
    color_strength: Annotated[Number, Field(ge=0)] = 0.1
    sample: PositiveInt | None = None
    """Round 0 trains on this many random tiles; on the whole archive when absent."""
    start: Start = "previous"
    """Rounds after 0 go on from the previous round's weights, or start anew."""
    num_workers: PositiveInt = 1
    cpus_per_worker: PositiveInt = 1
    checkpoint_every: PositiveInt | None = None
    """Epochs between checkpoints; a tenth of the epochs when absent. The last is always kept."""
    pool_tiles: PositiveInt = 32768
    """Decoded tiles that one worker mixes its batches from (pool_tiles * size^2 * 3 bytes)."""
    pruning: PruningConfig | None = None
    """Never when absent."""

    @model_validator(mode="after")
    def _check_pruning(self) -> TrainingConfig:
        shortest = min(self.epochs, self.later_epochs or self.epochs)
        if self.pruning is not None and self.pruning.warmup_epochs >= shortest:
            raise ValueError(
                f"pruning.warmup_epochs must be below the epochs of every round ({shortest}), or "
                f"nothing would be pruned; got {self.pruning.warmup_epochs}. Lower it, train "
                f"longer, or leave pruning out"
            )
        return self


class EmbeddingConfig(Section):
    """Embedding every tile with Ray Data."""

    batch_size: PositiveInt = 128
    num_workers: PositiveInt | None = None
    """Actors at most; one per free CPU (or GPU) when absent."""
    cpus_per_worker: PositiveInt = 1
    normalize: bool = True
    """L2-normalise before clustering, selection and measuring."""


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
    resample_rows: PositiveInt = 8
    """Members that a cluster gives to a resampling."""
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
    strategy: Strategy = "per-cluster"
    within: Within = "farthest-point"
    """Rule inside a cluster, for `per-cluster`."""
    global_share: Fraction = 0.25
    """Share of the budget that `hybrid` picks by farthest-point over the whole archive."""
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
                f"no use for quality_column or num_outliers. Leave them out, or the fallback"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> SelectionConfig:
        if self.quotas != QuotasConfig() and self.strategy not in ("per-cluster", "hybrid"):
            raise ValueError(
                f"quotas belong to the strategies per-cluster and hybrid; got {self.strategy}"
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


class MeasuresConfig(Section):
    """What is measured after every round."""

    compare: Annotated[tuple[Strategy, ...], Field(strict=False)] = ("random",)
    """Strategies that each round also tries on the same embeddings, for the table."""
    compare_repeats: PositiveInt = 5
    """Seeds over which `random` is averaged."""
    reference_clusters: PositiveInt | None = None
    """Clusters of the frozen reference clustering; as many as round 0 used when absent."""
    rare_percentile: Annotated[Number, Field(ge=0, le=100)] = 25.0
    """Classes at or under this percentile of the class sizes count as rare."""

    @field_validator("compare")
    @classmethod
    def _check_compare(cls, compare: tuple[Strategy, ...]) -> tuple[Strategy, ...]:
        if len(set(compare)) < len(compare):
            raise ValueError("each strategy must be listed once")
        return compare


class ConvergenceConfig(Section):
    """When to stop before `rounds` are done: both must hold for one round."""

    max_churn: Fraction = 0.05
    """1 - Jaccard similarity of successive selections, at most."""
    max_gain: Annotated[Number, Field(ge=0)] = 0.01
    """Relative gain in effective clusters over the previous round, at most."""


class RayConfig(Section):
    """Where Ray runs."""

    address: str = "local"
    """`local` starts an embedded Ray; `auto` or `ray://host:port` joins a cluster."""
    num_cpus: PositiveInt | None = None
    object_store_bytes: PositiveInt | None = None
    use_gpu: bool | None = None
    """Whether workers ask for a GPU; when absent, if Ray offers one."""


class StorageConfig(Section):
    """How to reach object stores. Credentials come from the environment, never from here."""

    endpoint_url: str | None = None
    """S3 endpoint; AWS_ENDPOINT_URL when absent."""
    connect_timeout_s: Annotated[Number, Field(gt=0)] = 10.0
    read_timeout_s: Annotated[Number, Field(gt=0)] = 60.0
    max_attempts: PositiveInt = 10


class Config(Section):
    """The whole run."""

    archive: ArchiveConfig
    selection: SelectionConfig
    out: Uri = "runs/run"
    seed: int = 0
    rounds: PositiveInt = 3
    encoder: EncoderConfig = EncoderConfig()
    training: TrainingConfig = TrainingConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    measures: MeasuresConfig = MeasuresConfig()
    convergence: ConvergenceConfig = ConvergenceConfig()
    ray: RayConfig = RayConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        near = self.selection.deduplicate
        if near is not None and near.threshold is not None and not self.embedding.normalize:
            raise ValueError(
                "selection.deduplicate.threshold is a cosine similarity and needs "
                "embedding.normalize: true. Give selection.deduplicate.distance instead"
            )
        self._check_hierarchy()
        return self

    def _check_hierarchy(self) -> None:
        flat_only = [name for name in ("max_skew", "fit_rows")
                     if getattr(self.clustering, name) is not None]  # fmt: skip
        if self.selection.strategy == "hierarchical" and flat_only:
            raise ValueError(
                f"clustering.{flat_only[0]} must be absent with selection.strategy: hierarchical"
            )
        if self.selection.strategy != "hierarchical" and "hierarchical" in self.measures.compare:
            raise ValueError(
                "measures.compare can name hierarchical only where selection.strategy is "
                "hierarchical, because the others pick from flat clusters"
            )
        if self.clustering.spherical and not self.embedding.normalize:
            raise ValueError("clustering.spherical needs embedding.normalize: true")

    def frozen_part(self) -> dict[str, Any]:
        """Return what defines the result: everything except where and on what it runs."""
        return self.model_dump(mode="json", exclude=UNFINGERPRINTED)

    def fingerprint(self) -> str:
        """Return a digest of `frozen_part`, 16 hex characters."""
        return digest_json(self.frozen_part())


def digest_json(value: object) -> str:
    """Return a 16-character digest of a JSON-serialisable value, independent of key order.

    >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def config_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line `key: old -> new` for each leaf in which two trees differ.

    >>> config_difference({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 -> 2']
    """
    before, after = _leaves(old), _leaves(new)
    absent = "(absent)"
    return [
        f"{key}: {before.get(key, absent)} -> {after.get(key, absent)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, absent) != after.get(key, absent)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found.update(_leaves(value, f"{name}."))
        else:
            found[name] = json.dumps(value, sort_keys=True)
    return found
