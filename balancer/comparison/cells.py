"""One cell of a comparison: train heads by one strategy with one seed, and score them.

A cell is a pure function of the data, its split and its settings, so that cells run anywhere in
any order. The test part is only scored; thresholds are fitted on the validation part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.comparison.heads import HeadSettings, count_updates, train_head
from balancer.comparison.plans import StrategySettings, TrainingData, TrainingPlan, make_plan
from balancer.comparison.scores import Scores, group_scores, score, worst_group_recall
from balancer.comparison.splits import Split
from balancer.comparison.thresholds import fit_thresholds
from balancer.imbalance.labels import LabelTable
from balancer.imbalance.reweighting import class_frequency_weights
from balancer.seeding import child_generator, derive_seed
from balancer.types import DoubleArray, FloatArray, IntArray

PER_CLASS = (
    "accuracy", "predicted_negative", "recall", "precision", "f1", "average_precision",
    "balanced_accuracy",
)  # fmt: skip
OVERALL = (
    "macro_recall", "worst_class_recall", "macro_f1", "mean_average_precision", "samples_f2",
    "top1", "worst_group_recall",
)  # fmt: skip
CLASS, ALL, GROUP = "class", "all", "group"
EQUAL_UPDATES = "equal-updates"
CLASS_WEIGHTED = "class-weighted"

RESULT_SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": description})
        for name, kind, description in [
            ("dataset", pa.string(), "name of the data set; ends in '(synthetic)' if rendered"),
            ("encoder", pa.string(), "name of the encoder"),
            ("pool", pa.int64(), "number of the long-tailed pool; 0 without pools"),
            ("seed", pa.int64(), "number of the seed: plan, first weights, order, dropout"),
            ("arm", pa.string(), "strategy with its level"),
            ("strategy", pa.string(), "name of the strategy"),
            ("level", pa.float64(), "k, target, size, growth or beta; NaN if it has none"),
            ("updates", pa.string(), "equal-epochs, or equal-updates: as many as the baseline"),
            ("loss", pa.string(), "plain, or class-weighted: the control"),
            ("decision", pa.string(), "top1: greatest logit; thresholds: fitted on validation"),
            ("num_rows", pa.int64(), "rows shown in an epoch, repetitions included"),
            ("num_distinct", pa.int64(), "different images among them"),
            ("num_updates", pa.int64(), "gradient steps"),
            ("class_std", pa.float64(), "standard deviation of the class sizes, images"),
            ("missing_classes", pa.int64(), "classes without a training image"),
            ("scope", pa.string(), "class, all, or group:COLUMN"),
            ("name", pa.string(), "of the class or group; empty for all"),
            ("place", pa.int64(), "of the class by size in the training part, 1 for the largest"),
            ("train_count", pa.int64(), "rows of the class shown in an epoch; of all: rows"),
            ("support", pa.int64(), "test images of the class or group"),
            *((name, pa.float64(), "per class, see scores.Scores") for name in PER_CLASS),
            *((name, pa.float64(), "over classes, see scores.Scores") for name in OVERALL),
        ]
    ]
)
"""Of results.parquet: one row per cell, decision, and class, group or whole. Every share is 0 to 1;
null where a score does not apply, NaN where it is not defined."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a part of the comparison computes: one plan, trained with every loss and step count.

    Attributes:
        dataset: its name in tables.
        encoder: likewise.
        pool: number of the pool.
        seed: number of the seed.
        arm: label of the strategy and its level.
        level: its number.
        settings: of the strategy.
        head: of the head.
        updates: how many gradient steps, see `ComparisonConfig`.
        losses: plain, class-weighted.
        groups: columns to score by group.
        root: seed that the cell's is derived from.
    """

    dataset: str
    encoder: str
    pool: int
    seed: int
    arm: str
    level: float
    settings: StrategySettings
    head: HeadSettings
    updates: tuple[str, ...]
    losses: tuple[str, ...]
    groups: tuple[str, ...]
    root: int


def score_cell(features: FloatArray, labels: LabelTable, split: Split, cell: Cell) -> pa.Table:
    """Train and score the heads of a cell.

    Strategies with the same seed draw from equally seeded generators and start from equal weights,
    so that arms differ by the strategy alone.

    Args:
        features: (N, D) float32 of all images.
        labels: of the same images.
        split: which of them are for what.
        cell: what to do.

    Returns:
        Rows of `RESULT_SCHEMA`.

    Raises:
        ValueError: a strategy that does not fit the data, see `make_plan`.

    Cost: per head about 0.3 ms a step at D = 512; a copy of the training features.
    """
    data = TrainingData(labels.take(split.train), features[split.train])
    own = derive_seed(cell.root, "pool", cell.pool, "seed", cell.seed)
    plan = make_plan(data, cell.settings, child_generator(own, "plan"))
    rows: list[dict[str, Any]] = []
    for loss in cell.losses:
        weighed = class_weighted(plan, data.labels) if loss == CLASS_WEIGHTED else plan
        known: dict[int, dict[str, FloatArray]] = {}  # equal steps make equal heads
        for updates in cell.updates:
            whole = len(data.labels) if updates == EQUAL_UPDATES else len(plan.rows)
            steps = count_updates(whole, cell.head)
            if steps not in known:
                head = train_head(data, weighed, cell.head, derive_seed(own, "head"), steps)
                known[steps] = {n: head.logits(features[split.part(n)]) for n in _SCORED}
            logits = known[steps]
            facts = _facts(cell, data.labels, plan, steps) | {"updates": updates, "loss": loss}
            rows += _scored_rows(facts, labels, split, logits, cell.groups)
    return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)


def class_weighted(plan: TrainingPlan, labels: LabelTable) -> TrainingPlan:
    """Return the plan with weights inverse to the class sizes of its own rows: the control.

    A class that the plan does not show counts as one image. Single labels: all terms of an image
    weigh as its class; many labels: each class's term.

    >>> from balancer.imbalance.labels import label_table
    >>> table = label_table(["a", "b", "c"], [["x"], ["x"], ["y"]])
    >>> plan = TrainingPlan(np.arange(3), np.ones(3, np.float32), np.ones(2, np.float32))
    >>> weights = class_weighted(plan, table).item_weights
    >>> bool(weights[2] == 2 * weights[0])
    True
    """
    counts = np.maximum(labels.matrix[plan.rows].sum(axis=0), 1)
    weights = class_frequency_weights(counts).astype(np.float32)
    if labels.is_single_label:
        items = plan.item_weights * weights[labels.top_class()[plan.rows]]
        return replace(plan, item_weights=items.astype(np.float32))
    return replace(plan, class_weights=(plan.class_weights * weights).astype(np.float32))


_SCORED = ("validation", "test")


def _facts(cell: Cell, labels: LabelTable, plan: TrainingPlan, num_updates: int) -> dict[str, Any]:
    counts = labels.matrix[plan.rows].sum(axis=0)
    return {
        "dataset": cell.dataset,
        "encoder": cell.encoder,
        "pool": cell.pool,
        "seed": cell.seed,
        "arm": cell.arm,
        "strategy": cell.settings.name,
        "level": cell.level,
        "num_rows": len(plan.rows),
        "num_distinct": len(np.unique(plan.rows)),
        "num_updates": num_updates,
        "class_std": float(np.std(counts)),
        "missing_classes": int((counts == 0).sum()),
        "counts": counts,
        "places": places_by_size(labels),
    }


def places_by_size(labels: LabelTable) -> IntArray:
    """Return (C,) each class's place by its number of images, 1 for the largest; ties by name.

    >>> from balancer.imbalance.labels import label_table
    >>> places_by_size(label_table(["a", "b", "c"], [["x"], ["y"], ["y"]])).tolist()
    [2, 1]
    """
    order = np.lexsort((np.array(labels.classes), -labels.counts()))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(1, len(order) + 1)
    return places


def _scored_rows(
    facts: dict[str, Any],
    labels: LabelTable,
    split: Split,
    logits: Mapping[str, FloatArray],
    groups: tuple[str, ...],
) -> Iterator[dict[str, Any]]:
    counts: IntArray = facts["counts"]
    places: IntArray = facts["places"]
    facts = {key: value for key, value in facts.items() if key not in ("counts", "places")}
    truth = labels.matrix[split.test]
    thresholds = fit_thresholds(logits["validation"], labels.matrix[split.validation])
    decisions: dict[str, DoubleArray | None] = {"thresholds": thresholds}
    if labels.is_single_label:
        decisions["top1"] = None
    for decision, cuts in decisions.items():
        base = facts | {"decision": decision}
        found = score(logits["test"], truth, cuts)
        for number, name in enumerate(labels.classes):
            yield base | {
                "scope": CLASS,
                "name": name,
                "place": int(places[number]),
                "train_count": int(counts[number]),
                "support": int(found.support[number]),
                **{key: float(getattr(found, key)[number]) for key in PER_CLASS},
            }
        overall = _overall(found)
        for column in groups:
            values = labels.columns[column][split.test]
            parts = group_scores(logits["test"], truth, cuts, values)
            for name, part in parts.items():
                yield base | {
                    "scope": f"{GROUP}:{column}",
                    "name": name,
                    "support": int((values.astype(str) == name).sum()),
                    **_overall(part),
                }
            worst = worst_group_recall(parts)
            overall["worst_group_recall"] = min(overall.get("worst_group_recall", worst), worst)
        yield base | {
            "scope": ALL,
            "name": "",
            "train_count": int(facts["num_rows"]),
            "support": len(truth),
            **overall,
        }


def _overall(found: Scores) -> dict[str, float]:
    return {key: float(getattr(found, key)) for key in OVERALL if hasattr(found, key)}
