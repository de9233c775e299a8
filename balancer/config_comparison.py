"""The configuration tree of a labeled comparison: data set, encoders, strategies, seeds, pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from balancer.comparison.heads import HeadSettings
from balancer.comparison.plans import StrategySettings
from balancer.config import (
    ArchiveFormat,
    EmbeddingConfig,
    EncoderConfig,
    LongTailConfig,
    RayConfig,
    StorageConfig,
)
from balancer.config_fields import Fraction, PositiveInt, Section, Text, Uri
from balancer.config_file import describe_fields

DatasetKind = Literal["planet", "ade20k", "folder", "table"]
SplitKind = Literal["60/20/20", "80/20", "official"]
Updates = Literal["equal-epochs", "equal-updates"]
Loss = Literal["plain", "class-weighted"]
LEVELS = ("k", "target", "size", "growth", "beta")
"""Settings of a strategy that are its level, a number."""
VARIANTS = ("mode", "selection", "order", "rule", "selection_settings", "normalize")
"""Settings that make another variant of it."""


class SplitConfig(Section):
    """How images are divided; every class must be in every part."""

    kind: SplitKind = "60/20/20"
    """`80/20` matches the published protocol: what is tested also fits the thresholds. `official`:
    ADE20K's own validation images are the test part, the others are divided 75/25."""
    group: str | None = None
    """Column of which no value may be in two parts, such as a location."""
    seed: int = 0


class DatasetConfig(Section):
    """A labeled set of images."""

    name: Text
    kind: DatasetKind
    images: Uri
    """Folder, zip, tar, Parquet or S3 prefix; see README, Data."""
    format: ArchiveFormat = "auto"
    labels: Uri | None = None
    """planet: train_v2.csv; ade20k: sceneCategories.txt; table: .csv or .parquet."""
    label_column: str = "label"
    """Of a table, or of the images' own metadata; folder names are the column `label`."""
    id_column: str = "image"
    """Of a table: names of images."""
    separator: str | None = None
    """Of a table: between the labels of an image; when absent spaces in the columns `tags` and
    `labels`, and one label per image in others."""
    min_class_size: PositiveInt = 1
    """Classes with fewer images are left out; 98 for ade20k."""
    strict: bool = False
    """For planet and ade20k: refuse labels and images that are not those that were published."""
    synthetic: bool = False
    """The images are rendered; every table and figure then says so."""
    max_bad_fraction: Fraction = 0.01
    tiles_per_shard: PositiveInt = 1024
    long_tail: LongTailConfig | None = None
    """Cut long-tailed pools out of a balanced set; its holdout is the test part."""
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _check(self) -> DatasetConfig:
        if (self.kind == "folder") == (self.labels is not None):
            raise ValueError("labels must be given for planet, ade20k and table, and for them only")
        if self.split.kind == "official" and self.kind != "ade20k":
            raise ValueError("split.kind official is for kind ade20k only")
        if self.strict and self.kind not in ("planet", "ade20k"):
            raise ValueError("strict is for kind planet and ade20k only")
        if self.long_tail is not None and (self.kind in ("planet",) or self.split.group):
            raise ValueError("long_tail needs one label per image, and no split.group")
        return self


class NamedEncoder(Section):
    """A frozen network, or the encoder of a finished run of `balancer run`."""

    name: Text
    encoder: EncoderConfig | None = None
    run: Uri | None = None
    """The run's folder; `{pool}` in it becomes the number of the pool."""
    round_index: Annotated[int, Field(ge=0)] = 0
    """Whose encoder of the run."""

    @model_validator(mode="after")
    def _check(self) -> NamedEncoder:
        if (self.encoder is None) == (self.run is None):
            raise ValueError(f"{self.name} must have either encoder or run")
        return self


@dataclass(frozen=True, slots=True)
class Arm:
    """One strategy at one level.

    Attributes:
        label: what tables and figures call it; unique in a comparison.
        level: its number, NaN if it has none.
        settings: of the strategy, without the ids of a manifest.
        manifest: URI that the ids come from.
    """

    label: str
    level: float
    settings: Mapping[str, Any]
    manifest: str | None = None


class ComparisonConfig(Section):
    """The whole comparison: every encoder x strategy x level x pool x seed."""

    dataset: DatasetConfig
    encoders: Annotated[tuple[NamedEncoder, ...], Field(strict=False, min_length=1)]
    strategies: Annotated[tuple[dict[str, Any], ...], Field(strict=False, min_length=1)]
    """Keys of a strategy, and `vary: {key: [values]}` for several levels; `uri` for manifest."""
    out: Uri = "runs/compare"
    features: Uri | None = None
    """Folder for extracted features, which comparisons may share; inside `out` when absent."""
    seed: int = 0
    seeds: PositiveInt = 5
    pools: PositiveInt = 1
    """Long-tailed pools that are cut, or without `dataset.long_tail` splits that are drawn."""
    updates: Annotated[tuple[Updates, ...], Field(strict=False, min_length=1)] = (
        "equal-epochs",
        "equal-updates",
    )
    losses: Annotated[tuple[Loss, ...], Field(strict=False, min_length=1)] = ("plain",)
    """`class-weighted`: the control that a method must beat, because weighting costs nothing once
    there are labels."""
    groups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Metadata columns whose groups are scored too."""
    head: HeadSettings = HeadSettings()
    embedding: EmbeddingConfig = EmbeddingConfig(normalize=False)
    ray: RayConfig = RayConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("encoders")
    @classmethod
    def _check_names(cls, encoders: tuple[NamedEncoder, ...]) -> tuple[NamedEncoder, ...]:
        names = [encoder.name for encoder in encoders]
        if len(set(names)) < len(names):
            raise ValueError(f"every encoder must have its own name; got {names}")
        return encoders

    @model_validator(mode="after")
    def _check(self) -> ComparisonConfig:
        labels = [arm.label for arm in self.arms()]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(f"each strategy must be listed once; {repeated[0]!r} is there twice")
        if "baseline" not in labels:
            raise ValueError("strategies must have baseline, which the others are compared with")
        return self

    def arms(self) -> list[Arm]:
        """Return every strategy at every level, in the order of the file.

        Raises:
            ValueError: naming the entry and what is wrong with it.
        """
        return [arm for entry in self.strategies for arm in _expand(entry)]


def _expand(entry: Mapping[str, Any]) -> list[Arm]:
    varied = entry.get("vary", {})
    if not isinstance(varied, Mapping) or not all(
        isinstance(values, list | tuple) and values for values in varied.values()
    ):
        raise ValueError(f"vary must be {{key: [values]}}; got {varied!r}")
    fixed = {key: value for key, value in entry.items() if key not in ("vary", "uri")}
    both = sorted(set(fixed) & set(varied))
    if both:
        raise ValueError(f"{both[0]!r} must stand in vary or outside it, not in both")
    return [
        _arm(fixed | dict(zip(varied, values, strict=True)), entry.get("uri"), set(varied))
        for values in product(*varied.values())
    ]


def _arm(settings: dict[str, Any], uri: str | None, varied: set[str]) -> Arm:
    is_manifest = settings.get("name") == "manifest"
    if is_manifest != (uri is not None):
        raise ValueError(f"uri must be given for manifest, and for it only; got {settings}")
    try:
        # The ids of a manifest are read later.
        later: dict[str, Any] = {"manifest_ids": ("",)} if is_manifest else {}
        checked = StrategySettings(**settings, **later)
    except (ValidationError, TypeError) as error:
        what = describe_fields(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"strategy {settings}: {what}") from error
    parts: list[str] = [checked.name]
    parts += [str(settings[key]) for key in VARIANTS if key in settings]
    parts += [f"{key}={settings[key]:g}" for key in LEVELS if key in settings]
    if is_manifest:
        parts.append(str(uri).rstrip("/").rpartition("/")[2])
    parts += [f"{key}={settings[key]}" for key in sorted(varied - set(VARIANTS) - set(LEVELS))]
    level = next((float(settings[key]) for key in LEVELS if key in settings), float("nan"))
    return Arm(" ".join(parts), level, settings, uri)
