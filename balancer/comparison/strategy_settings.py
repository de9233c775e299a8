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
USED: dict[StrategyName, frozenset[str]] = {
    "baseline": frozenset(),
    "reweight": frozenset({"k", "mode", "rule"}),
    "undersample": frozenset({"target", "mode", "order"}),
    "oversample": frozenset({"target", "order"}),
    "ml_ros": frozenset({"growth"}),
    "lp_ros": frozenset({"growth"}),
    "class_frequency": frozenset(),
    "effective_number": frozenset({"beta"}),
    "diverse": frozenset(
        {"target", "size", "mode", "order", "selection", "selection_settings", "normalize"}
    ),
    "diverse_per_class": frozenset({"target", "size", "order", "normalize"}),
    "random": frozenset({"target", "size", "mode", "order"}),
    "manifest": frozenset({"manifest_ids"}),
}
"""The settings that each strategy has a use for."""
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
        fields = type(self).model_fields
        unused = [
            key
            for key in fields
            if key not in USED[self.name] | {"name"}
            and getattr(self, key) != fields[key].get_default(call_default_factory=True)
        ]
        if unused:
            raise ValueError(
                f"{self.name} has no use for {', '.join(unused)}; it takes "
                f"{', '.join(sorted(USED[self.name])) or 'no settings'}"
            )
        if self.name in NEEDS_TARGET and self.target is None:
            raise ValueError(f"{self.name} must have a target: tiles per class")
        if self.name in SIZED and (self.target is None) == (self.size is None):
            raise ValueError(
                f"{self.name} must have either a target (then it takes the size of undersample) or "
                f"a size; got target {self.target} and size {self.size}"
            )
        if self.name == "diverse_per_class" and self.target is None:
            raise ValueError("diverse_per_class must have a target, not a size")
        if self.name == "manifest" and not self.manifest_ids:
            raise ValueError("manifest must have manifest_ids: the ids of its tiles")
        return self
