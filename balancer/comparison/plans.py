"""Strategies against imbalance: which tiles a head is trained on, and what each weighs.

A plan is all that a strategy decides; one training loop runs every plan
(`balancer.comparison.heads`). Strategies see the training part only.

Give equally seeded generators to strategies that are to be compared: arms that take the size of the
random undersampling then have exactly its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from balancer.comparison.diverse_plans import diverse_rows, fill_diverse
from balancer.comparison.strategy_settings import Mode, StrategyName, StrategySettings
from balancer.imbalance import multilabel_resampling, resampling
from balancer.imbalance.labels import LabelTable
from balancer.imbalance.low_frequency import low_frequency
from balancer.imbalance.multilabel_resampling import class_order
from balancer.imbalance.reweighting import (
    class_frequency_weights,
    effective_number_weights,
    instance_weights,
)
from balancer.selection.pool import rows_of
from balancer.types import FloatArray, IntArray

__all__ = [
    "PLANS",
    "Mode",
    "Planner",
    "StrategyName",
    "StrategySettings",
    "TrainingData",
    "TrainingPlan",
    "make_plan",
    "undersampled_rows",
]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The training part: labels, and features (N, D) float32 of the same tiles."""

    labels: LabelTable
    features: FloatArray

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len(self.features) != len(self.labels):
            raise ValueError(
                f"features must have one row for each of {len(self.labels)} tiles; got shape "
                f"{self.features.shape}."
            )


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What an epoch shows, and what it weighs.

    Attributes:
        rows: (M,) int64 rows of the training part; a row that repeats is shown as often.
        item_weights: (M,) float32, of all C terms of the tile in the loss.
        class_weights: (C,) float32, of the class's term for every tile.
        batch_scale: None; or, as published, the k by which a batch's mean loss is scaled in
            proportion to the share of low-frequency tiles in it: mean(item_weights) * mean(bce).
    """

    rows: IntArray
    item_weights: FloatArray
    class_weights: FloatArray
    batch_scale: float | None = None


Planner = Callable[[TrainingData, StrategySettings, np.random.Generator], TrainingPlan]


def make_plan(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    """Make the plan of the strategy that `settings` names.

    Args:
        data: the training part.
        settings: the strategy and its level.
        rng: decides what is drawn.

    Raises:
        ValueError: the labels or features do not fit the strategy.

    Cost: O(N C), for diverse arms that of `balancer.selection.select`.

    >>> from balancer.imbalance.labels import label_table
    >>> table = label_table(["a", "b", "c"], [["sea"], ["sea"], ["land"]])
    >>> data = TrainingData(table, np.eye(3, dtype=np.float32))
    >>> settings = StrategySettings(name="undersample", target=1)
    >>> len(make_plan(data, settings, np.random.default_rng(0)).rows)
    2
    """
    return PLANS[settings.name](data, settings, rng)


def undersampled_rows(
    labels: LabelTable, settings: StrategySettings, rng: np.random.Generator
) -> IntArray:
    """Return the rows that undersampling to `settings.target` keeps.

    Single labels: that many of every class. Many labels: filled in `settings.order`.
    """
    target = _target(settings)
    if labels.is_single_label:
        published = settings.mode == "as_published"
        return resampling.undersample(labels.matrix, target, rng, as_published=published)
    order = class_order(labels.matrix, settings.order, labels.classes)
    return multilabel_resampling.fill_under(labels.matrix, target, order, rng)


def _baseline(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    del settings, rng
    return _plain(data, np.arange(len(data.labels)))


def _reweight(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    del rng
    low = low_frequency(data.labels.counts(), settings.rule)
    plan = _plain(data, np.arange(len(data.labels)))
    weights = instance_weights(data.labels.matrix, low, settings.k)
    scale = settings.k if settings.mode == "as_published" else None
    return TrainingPlan(plan.rows, weights, plan.class_weights, scale)


def _undersample(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    return _plain(data, undersampled_rows(data.labels, settings, rng))


def _oversample(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    labels, target = data.labels, _target(settings)
    if labels.is_single_label:
        return _plain(data, resampling.oversample(labels.matrix, target, rng))
    order = class_order(labels.matrix, settings.order, labels.classes)
    return _plain(data, multilabel_resampling.fill_over(labels.matrix, target, order, rng))


def _ml_ros(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    return _plain(data, multilabel_resampling.ml_ros(data.labels.matrix, settings.growth, rng))


def _lp_ros(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    return _plain(data, multilabel_resampling.lp_ros(data.labels.matrix, settings.growth, rng))


def _class_frequency(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    del settings, rng
    return _class_weighted(data, class_frequency_weights(data.labels.counts()))


def _effective_number(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    del rng
    return _class_weighted(data, effective_number_weights(data.labels.counts(), settings.beta))


def _random(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    size = _size(data.labels, settings, rng)
    return _plain(data, np.sort(rng.choice(len(data.labels), size, replace=False)))


def _diverse(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    size = _size(data.labels, settings, rng)
    rows = diverse_rows(
        data.features,
        data.labels.ids,
        size,
        {"strategy": settings.selection, **settings.selection_settings},
        normalize=settings.normalize,
        rng=rng,
    )
    return _plain(data, rows)


def _diverse_per_class(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    labels = data.labels
    order = class_order(labels.matrix, settings.order, labels.classes)
    rows = fill_diverse(
        data.features, labels, _target(settings), order, normalize=settings.normalize, rng=rng
    )
    return _plain(data, rows)


def _manifest(
    data: TrainingData, settings: StrategySettings, rng: np.random.Generator
) -> TrainingPlan:
    del rng
    # Its archive may hold tiles of the other parts too, which must not be trained on.
    ids = np.array(settings.manifest_ids, dtype=np.str_)
    here = ids[np.isin(ids, data.labels.ids)]
    if len(here) == 0:
        raise ValueError(
            f"The manifest must have tiles of the training part; none of its {len(ids)} is there, "
            f"the first is {str(ids[0])!r}. Select from the training part, by the same ids."
        )
    return _plain(data, rows_of(data.labels.ids, here))


PLANS: dict[StrategyName, Planner] = {
    "baseline": _baseline,
    "reweight": _reweight,
    "undersample": _undersample,
    "oversample": _oversample,
    "ml_ros": _ml_ros,
    "lp_ros": _lp_ros,
    "class_frequency": _class_frequency,
    "effective_number": _effective_number,
    "diverse": _diverse,
    "diverse_per_class": _diverse_per_class,
    "random": _random,
    "manifest": _manifest,
}


def _plain(data: TrainingData, rows: IntArray) -> TrainingPlan:
    return TrainingPlan(
        rows.astype(np.int64),
        np.ones(len(rows), np.float32),
        np.ones(len(data.labels.classes), np.float32),
    )


def _class_weighted(data: TrainingData, weights: FloatArray) -> TrainingPlan:
    """Weigh all terms of a tile by its class; with many labels, each class's own term."""
    plan = _plain(data, np.arange(len(data.labels)))
    if data.labels.is_single_label:
        items = weights[data.labels.top_class()]
        return TrainingPlan(plan.rows, items, plan.class_weights)
    return TrainingPlan(plan.rows, plan.item_weights, weights)


def _target(settings: StrategySettings) -> int:
    # Checked when the settings were made.
    return cast(int, settings.target)


def _size(labels: LabelTable, settings: StrategySettings, rng: np.random.Generator) -> int:
    size = settings.size or len(undersampled_rows(labels, settings, rng))
    if size > len(labels):
        raise ValueError(
            f"size must not exceed the {len(labels)} tiles of the training part; got {size}. "
            f"Lower it."
        )
    return size
