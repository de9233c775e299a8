"""The settings of a strategy against imbalance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from balancer.config import Strategy
from balancer.config_fields import Fraction, Number, PositiveInt, Section
from balancer.imbalance.low_frequency import LowFrequencyRule
from balancer.imbalance.multilabel_resampling import FillOrder

StrategyName = Literal[
    "baseline",
    "reweight",
    "undersample",
    "oversample",
    "ml_ros",
    "lp_ros",
    "class_frequency",
    "effective_number",
    "diverse",
    "diverse_per_class",
    "random",
    "manifest",
]
Mode = Literal["instance", "as_published"]
NEEDS_TARGET = frozenset({"undersample", "oversample"})
SIZED = frozenset({"random", "diverse", "diverse_per_class"})


class StrategySettings(Section):
    """A strategy and its level. Settings that the strategy does not use must keep their default."""

    name: StrategyName
    target: PositiveInt | None = None
    """Tiles per class, for undersample, oversample, and the arms that take undersample's size."""
    size: PositiveInt | None = None
    """For random and diverse: tiles in all, instead of the size that `target` gives."""
    k: Annotated[Number, Field(gt=0)] = 1.0
    """For reweight: weight of tiles with a low-frequency label."""
    mode: Mode = "instance"
    """`as_published`: for reweight, the loss is scaled by the batch's mean weight, which leaves the
    gradient's direction as it is; for undersample of single labels, draws are with replacement."""
    rule: LowFrequencyRule = "percentile_25"
    order: FillOrder = "rarest_first"
    """In which classes are filled, for tiles with many labels."""
    growth: Fraction = 0.25
    """For ml_ros and lp_ros: share of the tiles to add."""
    beta: Annotated[Number, Field(ge=0, lt=1)] = 0.999
    """For effective_number."""
    selection: Strategy = "farthest-point"
    """For diverse: how tiles are picked without labels."""
    selection_settings: dict[str, Any] = Field(default_factory=dict)
    """For diverse: more keys of `SelectionConfig`, and of `ClusteringConfig`."""
    normalize: bool = True
    """For diverse and diverse_per_class: L2-normalise the features first."""
    manifest_ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """For manifest: the picked tiles; one that repeats is shown as often."""

    @model_validator(mode="after")
    def _check(self) -> StrategySettings:
        if self.name in NEEDS_TARGET and self.target is None:
            raise ValueError(f"{self.name} must have a target: tiles per class")
        if self.name in SIZED and (self.target is None) == (self.size is None):
            raise ValueError(
                f"{self.name} must have either a target (then it takes the size of undersample) or "
                f"a size; got target {self.target} and size {self.size}"
            )
        if self.name == "diverse_per_class" and self.target is None:
            raise ValueError("diverse_per_class must have a target, not a size")
        if (self.name == "manifest") != bool(self.manifest_ids):
            raise ValueError("manifest_ids must be given for manifest, and for it only")
        return self
