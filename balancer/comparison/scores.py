"""Scores of a head on labeled tiles: per class, over classes, per group of a metadata column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from balancer.imbalance.measures import class_name
from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray

BETA = 2.0
"""Of the F score of the Kaggle competition on Planet's tiles: recall counts more."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores on one set of tiles. (C,) float64 per class; NaN for a class without a tile in it.

    Attributes:
        support: (C,) int64 tiles of each class.
        accuracy: share of tiles whose yes or no for the class is right. A head that never says yes
            has 1 - the class's share, so it says little of rare classes; for comparison only.
        predicted_negative: share of tiles with a no: what the published figures of ADE20K show
            under the name of accuracy.
        recall: share of the class's tiles that are found.
        precision: share of the tiles with a yes that are right; NaN also where none has one.
        f1: of the two.
        average_precision: area under the precision-recall curve, without a threshold.
        balanced_accuracy: mean of the recall of yes and of no.
        macro_recall: mean over the classes that occur. For single labels, this is macro accuracy.
        worst_class_recall: the least of them.
        macro_f1: mean over the classes that occur.
        mean_average_precision: likewise.
        samples_f2: mean over tiles of the F score with beta 2.
        top1: share of tiles whose class has the greatest logit; NaN where tiles have many labels.
    """

    support: IntArray
    accuracy: DoubleArray
    predicted_negative: DoubleArray
    recall: DoubleArray
    precision: DoubleArray
    f1: DoubleArray
    average_precision: DoubleArray
    balanced_accuracy: DoubleArray
    macro_recall: float
    worst_class_recall: float
    macro_f1: float
    mean_average_precision: float
    samples_f2: float
    top1: float


def score(logits: FloatArray, matrix: BoolArray, thresholds: DoubleArray | None) -> Scores:
    """Score logits against labels.

    Args:
        logits: (N, C), N > 0.
        matrix: (N, C) bool.
        thresholds: (C,) logits from which a class is predicted, fitted on other tiles; None
            predicts the class with the greatest logit, for single labels.

    Raises:
        ValueError: shapes that do not fit, no tile, logits that are not finite, no thresholds for
            many labels.

    Cost: O(N C log N).

    >>> matrix = np.array([[1, 0], [1, 0], [0, 1]], dtype=bool)
    >>> found = score(np.array([[2, 1], [0, 1], [0, 1]], dtype=np.float32), matrix, None)
    >>> found.recall.tolist(), found.macro_recall, found.top1
    ([0.5, 1.0], 0.75, 0.6666666666666666)
    """
    _check(logits, matrix, thresholds)
    single = bool((matrix.sum(axis=1) == 1).all())
    if thresholds is None:
        if not single:
            raise ValueError(
                "thresholds must be given where a tile has none or several labels; fit them on the "
                "validation part."
            )
        predicted = np.zeros_like(matrix)
        predicted[np.arange(len(matrix)), logits.argmax(axis=1)] = True
    else:
        predicted = logits >= thresholds
    found = (matrix & predicted).sum(axis=0)
    missed, false_yes = (matrix & ~predicted).sum(axis=0), (~matrix & predicted).sum(axis=0)
    negative = len(matrix) - found - missed - false_yes
    support = matrix.sum(axis=0, dtype=np.int64)
    present = support > 0
    recall = _ratio(found, support)
    f1 = _keep(_ratio(2 * found, 2 * found + false_yes + missed), present)
    precision = _ratio(found, found + false_yes)
    areas = np.full(len(support), np.nan)
    for number in np.flatnonzero(present):
        areas[number] = average_precision_score(matrix[:, number], logits[:, number])
    specificity = _ratio(negative, negative + false_yes)
    right = logits.argmax(axis=1) == matrix.argmax(axis=1)
    return Scores(
        support=support,
        accuracy=_keep((negative + found) / len(matrix), present),
        predicted_negative=_keep((negative + missed) / len(matrix), present),
        recall=recall,
        precision=_keep(precision, present),
        f1=f1,
        average_precision=areas,
        balanced_accuracy=(recall + specificity) / 2,
        macro_recall=_mean(recall),
        worst_class_recall=float(np.nanmin(recall)) if present.any() else float("nan"),
        macro_f1=_mean(f1),
        mean_average_precision=_mean(areas),
        samples_f2=samples_f2(matrix, predicted),
        top1=float(right.mean()) if single else float("nan"),
    )


def samples_f2(matrix: BoolArray, predicted: BoolArray) -> float:
    """Return the mean over tiles of 5 p r / (4 p + r), the score of the Kaggle competition.

    1 for a tile without labels that is given none.

    >>> truth = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    >>> predicted = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=bool)
    >>> round(samples_f2(truth, predicted), 7)
    0.7962963
    """
    found = (matrix & predicted).sum(axis=1)
    return float(f_scores(found, predicted.sum(axis=1), matrix.sum(axis=1)).mean())


def f_scores(found: NDArray[Any], given: NDArray[Any], labels: NDArray[Any]) -> DoubleArray:
    """Return F scores with beta 2 from counts; 1 where there is nothing to find and none is given.

    (1 + b^2) tp / (b^2 (tp + fn) + tp + fp).

    Args:
        found: (N,) true positives.
        given: (N,) positives that were predicted.
        labels: (N,) positives that there are.

    >>> f_scores(np.array([1, 0]), np.array([1, 0]), np.array([2, 0])).tolist()
    [0.5555555555555556, 1.0]
    """
    square = BETA**2
    whole = square * labels + given
    return np.where(whole > 0, (1 + square) * found / np.maximum(whole, 1), 1.0)


def group_scores(
    logits: FloatArray, matrix: BoolArray, thresholds: DoubleArray | None, groups: NDArray[Any]
) -> dict[str, Scores]:
    """Score every group of tiles by itself.

    Args:
        logits: (N, C).
        matrix: (N, C) bool.
        thresholds: as for `score`.
        groups: (N,) values of a metadata column; tiles without one (None, NaN, empty text)
            are left out.

    Returns:
        Scores by the text of the value, in sorted order.

    Raises:
        ValueError: as `score`; groups of another length.

    >>> matrix = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)
    >>> logits = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    >>> found = group_scores(logits, matrix, None, np.array(["north", "south", "south"]))
    >>> {name: each.macro_recall for name, each in found.items()}, worst_group_recall(found)
    ({'north': 1.0, 'south': 0.5}, 0.5)
    """
    if groups.shape != (len(matrix),):
        raise ValueError(
            f"groups must have one value for each of {len(matrix)} tiles; got {groups.shape}."
        )
    names = [class_name(value) for value in groups.tolist()]
    found = {}
    for name in sorted({name for name in names if name}):
        rows = np.array([other == name for other in names])
        found[name] = score(logits[rows], matrix[rows], thresholds)
    return found


def worst_group_recall(groups: Mapping[str, Scores]) -> float:
    """Return the least macro recall of the groups; NaN where none has a labeled tile."""
    recalls = np.array([each.macro_recall for each in groups.values()])
    return float(np.nanmin(recalls)) if (~np.isnan(recalls)).any() else float("nan")


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> DoubleArray:
    ratios = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratios, where=whole > 0)
    return ratios


def _keep(values: DoubleArray, present: BoolArray) -> DoubleArray:
    return np.where(present, values, np.nan)


def _mean(values: DoubleArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _check(logits: FloatArray, matrix: BoolArray, thresholds: DoubleArray | None) -> None:
    if logits.shape != matrix.shape or logits.ndim != 2 or len(logits) == 0:
        raise ValueError(
            f"logits and labels must be matrices of one shape with rows; got {logits.shape} and "
            f"{matrix.shape}."
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite; some are not. Lower the learning rate.")
    if thresholds is not None and thresholds.shape != (matrix.shape[1],):
        raise ValueError(
            f"thresholds must have one value per class ({matrix.shape[1]}); got {thresholds.shape}."
        )
