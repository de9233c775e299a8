"""Cells: what is compared is equal but for the strategy; nothing of the test part leaks."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.comparison.cells import (
    RESULT_SCHEMA,
    Cell,
    class_weighted,
    places_by_size,
    score_cell,
)
from balancer.comparison.heads import HeadSettings
from balancer.comparison.plans import StrategySettings, TrainingPlan
from balancer.comparison.splits import Split
from balancer.imbalance.labels import LabelTable, label_table


def data(single: bool) -> tuple[np.ndarray, LabelTable, Split]:
    rng = np.random.default_rng(0)
    first = np.array(["a", "b", "c"])[np.arange(90) % 3]
    labels = [[str(x)] if single else [str(x), *(["d"] * (n % 2))] for n, x in enumerate(first)]
    site = np.array(["north", "south"])[np.arange(90) // 3 % 2]
    site[[71, 80]] = ""  # nobody knows: no group
    table = label_table([f"t{n:02d}" for n in range(90)], labels, columns={"site": site})
    features = table.matrix.astype(np.float32) @ rng.normal(size=(len(table.classes), 5))
    features = (features + 0.5 * rng.normal(size=features.shape)).astype(np.float32)
    rows = np.arange(90)
    return features, table, Split(rows[:54], rows[54:72], rows[72:])


def cell(name: str = "baseline", **settings: object) -> Cell:
    return Cell(
        dataset="d", encoder="e", pool=1, seed=2, arm=name, level=float("nan"),
        settings=StrategySettings.model_validate({"name": name, **settings}),
        head=HeadSettings(epochs=3, hidden=4, batch=16),
        updates=("equal-epochs", "equal-updates"), losses=("plain", "class-weighted"),
        groups=("site",), root=0,
    )  # fmt: skip


@pytest.mark.parametrize("single", [True, False])
def test_rows_are_whole(single: bool) -> None:
    table = score_cell(*data(single), cell())
    assert table.schema.equals(RESULT_SCHEMA)
    rows = table.to_pylist()
    decisions = {row["decision"] for row in rows}
    assert decisions == ({"top1", "thresholds"} if single else {"thresholds"})
    scopes = [row["scope"] for row in rows]
    heads = 2 * 2 * len(decisions)
    assert scopes.count("all") == heads
    assert scopes.count("group:site") == 2 * heads
    assert scopes.count("class") == (3 if single else 4) * heads
    assert {row["name"] for row in rows if row["scope"] == "group:site"} == {"north", "south"}
    whole = [row for row in rows if row["scope"] == "all"]
    groups = [row["macro_recall"] for row in rows if row["scope"] == "group:site"]
    worst = [min(groups[n : n + 2]) for n in range(0, len(groups), 2)]
    assert [row["worst_group_recall"] for row in whole] == worst


def test_the_same_cell_the_same_rows() -> None:
    first, again = (score_cell(*data(single=True), cell("random", size=20)) for _ in range(2))
    assert str(first.to_pylist()) == str(again.to_pylist())  # NaN is not equal to itself


def test_equal_updates_are_those_of_the_baseline() -> None:
    rows = score_cell(*data(single=True), cell("undersample", target=4)).to_pylist()
    steps = {row["updates"]: row["num_updates"] for row in rows}
    assert steps == {"equal-epochs": 3, "equal-updates": 3 * 4}  # 12 rows; 54 rows by 16
    assert {row["num_distinct"] for row in rows} == {12}


def test_labels_of_the_test_part_change_scores_only() -> None:
    """A head that never sees the test part gives the same scores on the validation part's cuts."""
    features, labels, split = data(single=False)
    spoiled = labels.matrix.copy()
    spoiled[split.test] = ~spoiled[split.test]
    other = LabelTable(labels.ids, labels.classes, spoiled, labels.columns)
    first = score_cell(features, labels, split, cell()).to_pylist()
    second = score_cell(features, other, split, cell()).to_pylist()
    for left, right in zip(first, second, strict=True):
        if left["scope"] == "class" and left["support"] and right["support"]:
            # What is found of the class before is falsely found after, so nothing was refitted.
            assert left["predicted_negative"] == pytest.approx(right["predicted_negative"])
            assert left["accuracy"] == pytest.approx(1 - right["accuracy"])


def test_class_weights_of_the_control() -> None:
    labels = label_table(["a", "b", "c", "d"], [["x", "y"], ["x"], ["x"], ["x", "y"]])
    plan = TrainingPlan(np.arange(4), np.ones(4, np.float32), np.ones(2, np.float32))
    weights = class_weighted(plan, labels).class_weights
    assert weights[1] == pytest.approx(2 * weights[0])
    assert weights.sum() == pytest.approx(2)


def test_places_break_ties_by_name() -> None:
    labels = label_table(["1", "2", "3", "4"], [["b"], ["a"], ["c"], ["c"]])
    assert places_by_size(labels).tolist() == [2, 3, 1]
