"""Thresholds from which a class is predicted, fitted on the validation part and nowhere else.

(The published code for ADE20K fitted them on the tiles that it then scored.)
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from balancer.comparison.scores import f_scores
from balancer.types import BoolArray, DoubleArray, FloatArray

Objective = Literal["class_f2", "samples_f2"]
Numbers = NDArray[Any]
START = 0.2
"""Probability at which the search for `samples_f2` starts, as published."""
GRID = np.arange(1, 100) / 100


def fit_thresholds(
    logits: FloatArray, matrix: BoolArray, objective: Objective = "class_f2"
) -> DoubleArray:
    """Return the threshold of every class, as a logit; predict where `logits >= threshold`.

    `class_f2`: each class by itself gets the threshold with the best F score (beta 2), exactly; of
    several, the highest; halfway between two logits. `samples_f2`: one pass over the classes from
    0.2 everywhere, each taking the hundredth that gives the best mean F score of the tiles, as
    published; common classes then decide for rare ones.

    Args:
        logits: (N, C) on the validation part.
        matrix: (N, C) bool, its labels.
        objective: which of the two.

    Returns:
        (C,) float64 logits; 0, a probability of one half, for a class without a tile (`class_f2`).

    Raises:
        ValueError: shapes that do not fit, no tile, an unknown objective.

    Cost: O(C N log N); `samples_f2` O(100 C N).

    >>> logits = np.array([[3.0], [2.0], [-1.0], [-2.0]], dtype=np.float32)
    >>> fit_thresholds(logits, np.array([[1], [1], [0], [0]], dtype=bool)).tolist()
    [0.5]
    """
    if logits.shape != matrix.shape or logits.ndim != 2 or len(logits) == 0:
        raise ValueError(
            f"logits and labels must be matrices of one shape with rows; got {logits.shape} and "
            f"{matrix.shape}."
        )
    if objective == "class_f2":
        columns = zip(logits.T.astype(np.float64), matrix.T, strict=True)
        return np.array([_best_cut(values, truth) for values, truth in columns])
    if objective == "samples_f2":
        return _coordinate_pass(logits, matrix)
    raise ValueError(f"objective must be one of {', '.join(get_args(Objective))}; got {objective}.")


def _best_cut(values: DoubleArray, truth: BoolArray) -> float:
    if not truth.any():
        return 0.0
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    found = np.cumsum(truth[order])
    quality = f_scores(found, np.arange(1, len(values) + 1), truth.sum())
    last_of_value = np.append(ordered[1:] != ordered[:-1], True)
    cut = int(np.where(last_of_value, quality, -1.0).argmax())
    below = ordered[cut + 1] if cut + 1 < len(ordered) else ordered[cut]
    return float((ordered[cut] + below) / 2)


def _coordinate_pass(logits: FloatArray, matrix: BoolArray) -> DoubleArray:
    thresholds = np.full(logits.shape[1], _logit(np.array(START)))
    predicted = logits >= thresholds
    found = (predicted & matrix).sum(axis=1)
    given, labels = predicted.sum(axis=1), matrix.sum(axis=1)
    for number in range(logits.shape[1]):
        truth, mine = matrix[:, number], predicted[:, number]
        found, given = found - (mine & truth), given - mine
        best = _mean_f(found + (mine & truth), given + mine, labels)
        for candidate in _logit(GRID):
            trial = logits[:, number] >= candidate
            value = _mean_f(found + (trial & truth), given + trial, labels)
            if value > best:
                best, mine, thresholds[number] = value, trial, candidate
        found, given = found + (mine & truth), given + mine
    return thresholds


def _mean_f(found: Numbers, given: Numbers, labels: Numbers) -> float:
    return float(f_scores(found, given, labels).mean())


def _logit(probability: DoubleArray) -> DoubleArray:
    return np.log(probability) - np.log1p(-probability)
