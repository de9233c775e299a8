from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from balancer.comparison.diverse_plans import fill_diverse
from balancer.comparison.plans import (
    PLANS,
    StrategyName,
    StrategySettings,
    TrainingData,
    make_plan,
)
from balancer.imbalance.low_frequency import low_frequency
from balancer.imbalance.multilabel_resampling import class_order
from balancer.selection import STRATEGIES
from balancer.types import IntArray
from tests.comparison.labeled_blobs import many_labels, single_label

REQUIRED: dict[str, dict[str, Any]] = {
    "undersample": {"target": 12},
    "oversample": {"target": 90},
    "diverse": {"target": 12},
    "diverse_per_class": {"target": 12},
    "random": {"target": 12},
    "manifest": {"manifest_ids": ("003", "005", "3")},
    "reweight": {"k": 3},
}


def settings_of(name: StrategyName, **more: object) -> StrategySettings:
    return StrategySettings.model_validate({"name": name} | REQUIRED.get(name, {}) | more)


def rows_of(data: TrainingData, settings: StrategySettings, seed: int = 0) -> IntArray:
    return make_plan(data, settings, np.random.default_rng(seed)).rows


@pytest.mark.parametrize("name", get_args(StrategyName))
@pytest.mark.parametrize("data", [single_label(60, 40, 8), many_labels()], ids=["one", "many"])
def test_every_strategy(name: StrategyName, data: TrainingData) -> None:
    settings = settings_of(name)
    plan = make_plan(data, settings, np.random.default_rng(0))
    again = make_plan(data, settings, np.random.default_rng(0))
    assert (plan.rows == again.rows).all()
    assert plan.rows.dtype == np.int64
    assert plan.item_weights.shape == plan.rows.shape
    assert plan.item_weights.dtype == plan.class_weights.dtype == np.float32
    assert plan.class_weights.shape == (len(data.labels.classes),)
    assert plan.batch_scale is None
    assert plan.rows.max() < len(data.labels)
    assert set(PLANS) == set(get_args(StrategyName))


def test_baseline_is_all_tiles_once() -> None:
    data = many_labels()
    plan = make_plan(data, settings_of("baseline"), np.random.default_rng(0))
    assert plan.rows.tolist() == list(range(200))
    assert (plan.item_weights == 1).all()


def test_reweighting_and_its_published_form() -> None:
    data = many_labels()
    low = low_frequency(data.labels.counts())
    rare = data.labels.matrix[:, low].any(axis=1)
    plan = make_plan(data, settings_of("reweight"), np.random.default_rng(0))
    assert (plan.item_weights == np.where(rare, 3, 1)).all()
    published = settings_of("reweight", mode="as_published")
    assert make_plan(data, published, np.random.default_rng(0)).batch_scale == 3


def test_class_weights_are_the_tiles_with_one_label() -> None:
    data = single_label(30, 10)
    plan = make_plan(data, settings_of("class_frequency"), np.random.default_rng(0))
    assert plan.class_weights.tolist() == [1, 1]
    assert plan.item_weights[[0, 39]].tolist() == [0.5, 1.5]
    many = make_plan(many_labels(), settings_of("class_frequency"), np.random.default_rng(0))
    assert (many.item_weights == 1).all()
    assert many.class_weights.argmax() == 4


@pytest.mark.parametrize("data", [single_label(60, 40, 8), many_labels()], ids=["one", "many"])
def test_arms_of_one_size(data: TrainingData) -> None:
    sizes = {
        name: len(rows_of(data, settings_of(name), seed=5))
        for name in ("undersample", "random", "diverse")
    }
    assert len(set(sizes.values())) == 1
    assert len(rows_of(data, StrategySettings(name="random", size=17))) == 17


@pytest.mark.parametrize("selection", list(STRATEGIES))
def test_diverse_by_any_strategy(selection: str) -> None:
    data = single_label(60, 40, 8)
    rows = rows_of(data, settings_of("diverse", selection=selection, target=8))
    assert len(np.unique(rows)) == len(rows) == 24


def test_diverse_does_not_see_labels() -> None:
    data = single_label(60, 40, 8)
    settings = StrategySettings(name="diverse", size=20)
    mixed = np.random.default_rng(9).permutation(data.labels.matrix)
    other = TrainingData(
        type(data.labels)(data.labels.ids, data.labels.classes, mixed), data.features
    )
    assert (rows_of(data, settings) == rows_of(other, settings)).all()


def test_settings_of_the_selection_arrive() -> None:
    data = single_label(60, 40, 8)
    settings = StrategySettings(
        name="diverse",
        size=20,
        selection="per-cluster",
        selection_settings={"within": "random", "num_clusters": 4},
    )
    assert len(rows_of(data, settings)) == 20
    wrong = settings.model_copy(update={"selection_settings": {"withing": "random"}})
    with pytest.raises(Exception, match="withing"):
        rows_of(data, wrong)


def test_diverse_per_class_fills_and_spreads() -> None:
    data = single_label(60, 40, 8)
    rows = rows_of(data, settings_of("diverse_per_class"))
    assert data.labels.matrix[rows].sum(axis=0).tolist() == [12, 12, 8]
    line = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]], dtype=np.float32)
    table = single_label(5).labels
    spread = fill_diverse(
        line, table, 2, np.array([0]), normalize=False, rng=np.random.default_rng(0)
    )
    assert {0, 4} & set(spread.tolist())


def test_diverse_per_class_with_many_labels() -> None:
    data = many_labels()
    order = class_order(data.labels.matrix, "rarest_first")
    rows = fill_diverse(
        data.features, data.labels, 12, order, normalize=True, rng=np.random.default_rng(0)
    )
    counts = data.labels.counts()
    assert (data.labels.matrix[rows].sum(axis=0) >= np.minimum(12, counts)).all()
    assert len(np.unique(rows)) == len(rows)


def test_manifest_leaves_tiles_of_other_parts_out() -> None:
    data = single_label(4, 4)
    settings = StrategySettings(name="manifest", manifest_ids=("7", "elsewhere", "2", "7"))
    assert rows_of(data, settings).tolist() == [7, 2, 7]
    nothing = StrategySettings(name="manifest", manifest_ids=("elsewhere",))
    with pytest.raises(ValueError, match="none of its 1 is there, the first is 'elsewhere'"):
        rows_of(data, nothing)


def test_refusals() -> None:
    with pytest.raises(ValidationError, match="baseline has no use for k; it takes no settings"):
        StrategySettings(name="baseline", k=2)
    with pytest.raises(ValidationError, match="no use for selection; it takes mode, order, size"):
        StrategySettings(name="random", size=3, selection="medoid")
    kept = settings_of("diverse", selection="medoid")
    assert StrategySettings(**kept.model_dump()) == kept
    with pytest.raises(ValidationError, match="undersample must have a target"):
        StrategySettings(name="undersample")
    with pytest.raises(ValidationError, match="either a target"):
        StrategySettings(name="random", target=3, size=3)
    with pytest.raises(ValidationError, match="a target, not a size"):
        StrategySettings(name="diverse_per_class", size=3)
    with pytest.raises(ValidationError, match="manifest must have manifest_ids"):
        StrategySettings(name="manifest")
    with pytest.raises(ValidationError, match="no use for manifest_ids"):
        StrategySettings(name="baseline", manifest_ids=("a",))
    with pytest.raises(ValueError, match="must not exceed the 8 tiles"):
        rows_of(single_label(4, 4), StrategySettings(name="random", size=9))
    with pytest.raises(ValueError, match="one row for each of 8 tiles"):
        TrainingData(single_label(4, 4).labels, np.zeros((7, 2), np.float32))
