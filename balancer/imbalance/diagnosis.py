"""What is imbalanced in a set of labeled tiles: classes, pairs of classes, groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.imbalance.class_pairs import (
    NONE,
    class_geometry,
    confusions,
    nearest_by_company,
    nearest_by_confusion,
)
from balancer.imbalance.label_measures import (
    cooccurrence,
    imbalance_ratios,
    imbalance_variation,
    mean_imbalance_ratio,
)
from balancer.imbalance.labels import LabelTable
from balancer.imbalance.low_frequency import LowFrequencyRule, low_frequency
from balancer.imbalance.measures import class_name, effective_number, gini
from balancer.types import BoolArray, FloatArray, IntArray

NO_VALUE = "(none)"
"""The group of tiles that have no value in a metadata column."""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class; None for what is not known of it.

    Attributes:
        name: of the class.
        count: tiles that have it.
        share: of all tiles.
        imbalance_ratio: the greatest count over its own; None without a tile.
        is_low: whether it is low-frequency.
        nearest: the class that it is most easily taken for.
        shared: tiles that have both labels.
        confused: share of its tiles on which the nearest class is wrongly predicted.
        pair_accuracy: see `balancer.imbalance.class_pairs.ClassGeometry`, as the next three.
        distance: to the nearest class's centroid.
        spread: of its tiles around their centroid.
        separation: distance over the mean spread.
    """

    name: str
    count: int
    share: float
    imbalance_ratio: float | None
    is_low: bool
    nearest: str | None = None
    shared: int | None = None
    confused: float | None = None
    pair_accuracy: float | None = None
    distance: float | None = None
    spread: float | None = None
    separation: float | None = None


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Classes by the values of one metadata column.

    Attributes:
        column: its name.
        groups: (G,) values as text, most tiles first.
        sizes: (G,) tiles of each.
        counts: (G, C) tiles of each class in each.
    """

    column: str
    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The imbalance of a set of labeled tiles.

    Attributes:
        num_tiles: N.
        num_unlabeled: tiles without a label.
        cardinality: labels per tile, on average.
        num_sets: distinct sets of labels.
        rule: which classes are low-frequency.
        percentile_25: of the counts, by linear interpolation.
        mean_count: of the classes.
        count_std: of the classes, ddof 0.
        num_with_low: tiles that have a low-frequency label.
        mean_ratio: MeanIR.
        max_ratio: the greatest imbalance ratio.
        ratio_variation: CVIR.
        gini: of the counts.
        effective_classes: exp(entropy) of the counts.
        pairs_by: how nearest classes were found: `centroid`, `confusion`, `company`, or `nothing`.
        classes: most tiles first, then by name.
        together: (C, C) tiles that have both labels, in the order of `classes`.
        groups: one table per metadata column that was asked for.
    """

    num_tiles: int
    num_unlabeled: int
    cardinality: float
    num_sets: int
    rule: LowFrequencyRule
    percentile_25: float
    mean_count: float
    count_std: float
    num_with_low: int
    mean_ratio: float
    max_ratio: float
    ratio_variation: float
    gini: float
    effective_classes: float
    pairs_by: str
    classes: tuple[ClassRow, ...]
    together: tuple[tuple[int, ...], ...] = field(repr=False)
    groups: tuple[GroupTable, ...] = ()


def diagnose(
    labels: LabelTable,
    *,
    features: FloatArray | None = None,
    predicted: BoolArray | None = None,
    groups: Sequence[str] = (),
    rule: LowFrequencyRule = "percentile_25",
) -> Diagnosis:
    """Measure the imbalance of labels, of pairs of classes, and of groups.

    Nearest classes are found by the centroids of features where there are any, else by predictions,
    else by the company that labels keep.

    Args:
        labels: of the tiles.
        features: (N, D) float32 of the same tiles.
        predicted: (N, C) bool, predicted labels.
        groups: names of metadata columns in `labels`.
        rule: which classes are low-frequency.

    Raises:
        ValueError: no label at all, a column that is not there, shapes that do not fit.

    Cost: O(N C^2), with features O(N C D).

    >>> from balancer.imbalance.labels import label_table
    >>> found = diagnose(label_table("abc", [["sea"], ["sea"], ["land"]]))
    >>> found.mean_ratio, [row.name for row in found.classes], found.pairs_by
    (1.5, ['sea', 'land'], 'nothing')
    """
    counts, matrix = labels.counts(), labels.matrix
    if not counts.any():
        raise ValueError("Some tile must have a label; none has.")
    order = np.lexsort((np.array(labels.classes), -counts))
    low = low_frequency(counts, rule)
    together = cooccurrence(matrix)
    nearest, more, pairs_by = _pairs(labels, features, predicted)
    ratios = imbalance_ratios(counts)
    rows = tuple(
        ClassRow(
            name=labels.classes[number],
            count=int(counts[number]),
            share=float(counts[number] / len(labels)),
            imbalance_ratio=_known(ratios[number]),
            is_low=bool(low[number]),
            nearest=None if nearest[number] == NONE else labels.classes[nearest[number]],
            shared=None if nearest[number] == NONE else int(together[number, nearest[number]]),
            **{name: _known(values[number]) for name, values in more.items()},
        )
        for number in order
    )
    return Diagnosis(
        num_tiles=len(labels),
        num_unlabeled=int((~matrix.any(axis=1)).sum()),
        cardinality=float(matrix.sum() / len(labels)),
        num_sets=len(np.unique(matrix, axis=0)),
        rule=rule,
        percentile_25=float(np.percentile(counts, 25)),
        mean_count=float(counts.mean()),
        count_std=float(counts.std()),
        num_with_low=int(matrix[:, low].any(axis=1).sum()),
        mean_ratio=mean_imbalance_ratio(counts),
        max_ratio=float(np.nanmax(ratios)),
        ratio_variation=imbalance_variation(counts),
        gini=gini(counts),
        effective_classes=effective_number(counts),
        pairs_by=pairs_by,
        classes=rows,
        together=tuple(map(tuple, together[np.ix_(order, order)].tolist())),
        groups=tuple(group_table(labels, name, order) for name in groups),
    )


def group_table(labels: LabelTable, column: str, order: IntArray | None = None) -> GroupTable:
    """Count tiles and classes by the values of a metadata column.

    Args:
        labels: with the column.
        column: its name; tiles without a value form a group of their own.
        order: (C,) of the classes in the table; that of `labels` when absent.

    Raises:
        ValueError: no such column.

    >>> from balancer.imbalance.labels import label_table
    >>> site = {"site": np.array(["north", "south", "south"])}
    >>> table = label_table("abc", [["sea"], ["sea"], ["land"]], columns=site)
    >>> group_table(table, "site").groups, group_table(table, "site").counts
    (('south', 'north'), ((1, 1), (0, 1)))
    """
    if column not in labels.columns:
        raise ValueError(
            f"Groups must be a metadata column; got {column!r}, and there are: "
            f"{', '.join(labels.columns) or 'none'}. Name one of them."
        )
    matrix = labels.matrix if order is None else labels.matrix[:, order]
    values = np.array([class_name(v) or NO_VALUE for v in labels.columns[column].tolist()])
    names, group_of = np.unique(values, return_inverse=True)
    sizes = np.bincount(group_of, minlength=len(names))
    counts = np.zeros((len(names), matrix.shape[1]), np.int64)
    np.add.at(counts, group_of, matrix)
    by_size = np.lexsort((names, -sizes))
    return GroupTable(
        column,
        tuple(names[by_size].tolist()),
        tuple(sizes[by_size].tolist()),
        tuple(map(tuple, counts[by_size].tolist())),
    )


def _pairs(
    labels: LabelTable, features: FloatArray | None, predicted: BoolArray | None
) -> tuple[IntArray, dict[str, NDArray[Any]], str]:
    """Return the nearest class of each, more values per class, and how they were found."""
    matrix, more = labels.matrix, {}
    by, nearest = "company", np.full(len(labels.classes), NONE, np.int64)
    if features is not None:
        geometry = class_geometry(features, matrix)
        by, nearest = "centroid", geometry.nearest
        more = {
            "pair_accuracy": geometry.pair_accuracy,
            "distance": geometry.distance,
            "spread": geometry.spread,
            "separation": geometry.separation,
        }
    elif predicted is not None:
        by, nearest = "confusion", nearest_by_confusion(matrix, predicted)
    else:
        nearest = nearest_by_company(matrix)
        by = "company" if (nearest != NONE).any() else "nothing"
    if predicted is not None:
        wrong = confusions(matrix, predicted)
        found = wrong[np.arange(len(nearest)), np.maximum(nearest, 0)]
        share = found / np.maximum(labels.counts(), 1)
        more["confused"] = np.where(nearest == NONE, np.nan, share)
    return nearest, more, by


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
