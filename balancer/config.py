"""The configuration tree of a run: strict sections with defaults, and a fingerprint.

`balancer.config_file` reads it from YAML. Credentials come from the environment, never from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from balancer.config_fields import Fraction, Number, PositiveInt, Section, Triple, Uri
from balancer.config_pruning import PruningConfig
from balancer.config_selection import (
    ENGINE_KEYS,
    AxisRule,
    ClusteringConfig,
    QuotasConfig,
    Seeding,
    SelectionConfig,
    Strategy,
    Within,
    can_trim,
    can_weigh,
)

__all__ = [
    "UNFINGERPRINTED",
    "ArchiveConfig",
    "ArchiveFormat",
    "Augmentation",
    "AxisRule",
    "ClusteringConfig",
    "Config",
    "ConvergenceConfig",
    "EmbeddingConfig",
    "EncoderConfig",
    "EncoderKind",
    "LongTailConfig",
    "MeasuresConfig",
    "QuotasConfig",
    "RayConfig",
    "Resize",
    "Seeding",
    "SelectionConfig",
    "Start",
    "StorageConfig",
    "Strategy",
    "TrainingConfig",
    "Within",
    "can_trim",
    "can_weigh",
    "config_difference",
    "digest_json",
]

ArchiveFormat = Literal["auto", "folder", "zip", "webdataset", "parquet"]
EncoderKind = Literal["simclr", "autoencoder", "frozen"]
Start = Literal["previous", "scratch"]
Augmentation = Literal["batched", "lightly"]
Resize = Literal["stretch", "crop-bilinear", "crop-bicubic"]
UNFINGERPRINTED: dict[str, Any] = {
    "out": True,
    "ray": True,
    "storage": True,
    "archive": {"max_bad_fraction"},
    "embedding": {"num_workers"},
    "selection": ENGINE_KEYS,
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
    bands: Literal["rgb", "bgrn-16"] = "rgb"
    """`bgrn-16` also reads TIFFs of four 16-bit bands (blue, green, red, near infrared)."""
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
    resize: Resize = "stretch"
    """`stretch`: the whole tile to a square. `crop-bilinear` (torchvision's weights) and
    `crop-bicubic` (CLIP's): the short side to `image_size`, then the middle square."""
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
