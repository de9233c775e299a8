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
from balancer.errors import ConfigError

Strategy = Literal[
    "random",
    "farthest-point",
    "per-cluster",
    "hybrid",
    "composable",
    "composable-epsilon",
    "medoid",
    "hybrid-medoid",
    "facility-location",
    "facility-medoid",
    "inverse-density",
]
Within = Literal["random", "nearest", "farthest-point"]
ArchiveFormat = Literal["auto", "folder", "zip", "webdataset", "parquet"]
EncoderKind = Literal["simclr", "autoencoder", "frozen"]
Start = Literal["previous", "scratch"]
Augmentation = Literal["batched", "lightly"]
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


class EmbeddingConfig(Section):
    """Embedding every tile with Ray Data."""

    batch_size: PositiveInt = 128
    num_workers: PositiveInt | None = None
    """Actors at most; one per free CPU (or GPU) when absent."""
    cpus_per_worker: PositiveInt = 1
    normalize: bool = True
    """L2-normalise before clustering, selection and measuring."""


class ClusteringConfig(Section):
    """Distributed k-means."""

    num_clusters: PositiveInt | None = None
    """From the budget when absent: see `balancer.clustering.kmeans.default_num_clusters`."""
    iterations: PositiveInt = 20
    tolerance: Annotated[Number, Field(ge=0)] = 1e-4
    """Stop when the inertia falls by less than this share in an iteration."""
    sample_per_cluster: PositiveInt = 64
    """Rows per cluster in the seeded sample that the first centroids are chosen from."""


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
    """For `composable-epsilon`: most rows a shard sends; no limit when absent."""
    facility_power: Annotated[Number, Field(gt=0, le=64)] = 2.0
    """For `facility-location` and `facility-medoid`: the power of the distance. 2 follows the
    density, more evens it out and needs a better embedding."""
    density_exponent: Annotated[Number, Field(ge=0)] = 1.0
    """For `inverse-density`: 0 samples uniformly, 1 in inverse proportion to the density."""

    @model_validator(mode="after")
    def _check(self) -> SelectionConfig:
        if self.budget >= 1 and self.budget != int(self.budget):
            raise ValueError(
                f"budget must be a whole number of tiles, or a share below 1; got {self.budget}"
            )
        if self.coreset_rows is not None and self.coreset_rows < self.budget:
            raise ValueError(
                f"coreset_rows must be at least the budget ({self.budget:.0f}), because a shard "
                f"sends that many rows; got {self.coreset_rows}. Raise it, or leave it out"
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
