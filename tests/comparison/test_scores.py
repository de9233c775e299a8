"""Scores by hand, against scikit-learn's and torchmetrics' own, and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score
from torchmetrics.classification import MultilabelAccuracy, MultilabelF1Score, MultilabelRecall

from balancer.comparison.scores import (
    group_scores,
    samples_f2,
    score,
    worst_group_recall,
)
from balancer.comparison.thresholds import fit_thresholds
from balancer.types import BoolArray, FloatArray


def random_case(seed: int, num_rows: int = 60) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    matrix = rng.random((num_rows, 4)) < np.array([0.6, 0.4, 0.2, 0.1])
    matrix[:4] |= np.eye(4, dtype=np.bool_)
    return (matrix + rng.normal(size=matrix.shape) - 0.5).astype(np.float32), matrix


def slow_f2(truth: BoolArray, predicted: BoolArray) -> float:
    """Return 5 p r / (4 p + r), from precision and recall."""
    found = (truth & predicted).sum()
    if found == 0:
        return 0.0
    precision, recall = found / predicted.sum(), found / truth.sum()
    return float(5 * precision * recall / (4 * precision + recall))


def test_by_hand() -> None:
    matrix = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)
    logits = np.array([[1, -1], [-1, 1], [2, -2], [3, -3]], dtype=np.float32)
    found = score(logits, matrix, np.zeros(2))
    # Class 0: found 2, missed 1, wrongly 1. Class 1: found 0, missed 1, wrongly 1.
    assert found.support.tolist() == [3, 1]
    assert found.recall.tolist() == [2 / 3, 0]
    assert found.precision.tolist() == [2 / 3, 0]
    assert found.f1.tolist() == pytest.approx([2 / 3, 0])
    assert found.accuracy.tolist() == [0.5, 0.5]
    assert found.predicted_negative.tolist() == [0.25, 0.75]
    assert found.balanced_accuracy.tolist() == pytest.approx([1 / 3, 1 / 3])
    # Class 0 by falling logit: no, yes, yes, yes: (1/2 + 2/3 + 2/4 ... ) at each yes.
    assert found.average_precision[0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert found.macro_recall == pytest.approx(1 / 3)
    assert found.worst_class_recall == 0
    assert np.isnan(found.top1)


def test_macro_accuracy_of_the_constant_classifier_is_a_half() -> None:
    # 99.5 % of the tiles are of class 0: accuracy 0.995, macro accuracy 0.5 (a slide prints 50.25).
    numbers = np.array([0] * 199 + [1])
    logits = np.tile(np.array([1, 0], np.float32), (200, 1))
    found = score(logits, np.eye(2, dtype=np.bool_)[numbers], None)
    assert found.top1 == 0.995
    assert found.macro_recall == 0.5


def test_a_head_that_always_says_no_is_accurate_on_rare_classes() -> None:
    matrix = np.zeros((40479, 1), np.bool_)
    matrix[:98] = True
    found = score(np.full((40479, 1), -1, np.float32), matrix, np.zeros(1))
    assert found.accuracy[0] == pytest.approx(0.9976, abs=5e-5)
    assert (found.recall[0], found.balanced_accuracy[0]) == (0, 0.5)
    assert np.isnan(found.precision[0])


def test_a_class_without_tiles_is_nan_and_does_not_count() -> None:
    matrix = np.array([[1, 0], [1, 0]], dtype=bool)
    found = score(np.array([[1, 1], [-1, -1]], dtype=np.float32), matrix, np.zeros(2))
    for values in (
        found.recall,
        found.precision,
        found.f1,
        found.accuracy,
        found.average_precision,
    ):
        assert np.isnan(values[1])
    assert found.macro_recall == 0.5


def test_samples_f2_by_hand() -> None:
    truth = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=bool)
    assert samples_f2(truth, predicted) == pytest.approx(0.7962963, abs=5e-8)
    for seed in range(3):
        logits, matrix = random_case(seed)
        theirs = fbeta_score(matrix, logits > 0, beta=2, average="samples", zero_division=1)
        assert samples_f2(matrix, logits > 0) == pytest.approx(theirs)
    empty = np.zeros((1, 2), np.bool_)
    assert samples_f2(empty, empty) == 1
    assert samples_f2(empty, ~empty) == samples_f2(~empty, empty) == 0


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_torchmetrics(seed: int) -> None:
    logits, matrix = random_case(seed)
    found = score(logits, matrix, np.zeros(4))
    probabilities = torch.sigmoid(torch.from_numpy(logits))
    truth = torch.from_numpy(matrix.astype(np.int64))
    for metric, ours in (
        (MultilabelRecall, found.recall),
        (MultilabelF1Score, found.f1),
        (MultilabelAccuracy, found.accuracy),
    ):
        theirs = metric(num_labels=4, average=None)(probabilities, truth).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_groups() -> None:
    logits, matrix = random_case(0)
    sites = np.array(["b", "a", None] * 20, dtype=object)
    found = group_scores(logits, matrix, np.zeros(4), sites)
    assert list(found) == ["a", "b"]
    rows = np.array([site == "a" for site in sites])
    alone = score(logits[rows], matrix[rows], np.zeros(4))
    assert found["a"].recall.tolist() == pytest.approx(alone.recall.tolist(), nan_ok=True)
    assert worst_group_recall(found) == min(each.macro_recall for each in found.values())


class TestThresholds:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10**6))
    def test_class_f2_is_the_best_there_is(self, seed: int) -> None:
        logits, matrix = random_case(seed, 12)
        logits = np.round(logits, 1)  # ties
        thresholds = fit_thresholds(logits, matrix)
        for number in range(4):
            values, truth = logits[:, number], matrix[:, number]
            best = max(slow_f2(truth, values >= cut) for cut in values)
            assert slow_f2(truth, values >= thresholds[number]) == pytest.approx(best)

    def test_samples_f2_never_falls_below_its_start(self) -> None:
        for seed in range(3):
            logits, matrix = random_case(seed)
            thresholds = fit_thresholds(logits, matrix, "samples_f2")
            start = np.full(4, np.log(0.2 / 0.8))
            before, after = (samples_f2(matrix, logits >= t) for t in (start, thresholds))
            assert after >= before

    def test_samples_f2_by_a_slow_search(self) -> None:
        logits, matrix = random_case(4)
        thresholds = np.full(4, np.log(0.2 / 0.8))
        for number in range(4):
            best = samples_f2(matrix, logits >= thresholds)
            for hundredth in range(1, 100):
                trial = thresholds.copy()
                trial[number] = np.log(hundredth / 100) - np.log1p(-hundredth / 100)
                value = samples_f2(matrix, logits >= trial)
                if value > best + 1e-12:
                    best, thresholds = value, trial
        found = fit_thresholds(logits, matrix, "samples_f2")
        assert samples_f2(matrix, logits >= found) == pytest.approx(best)

    def test_a_class_without_tiles(self) -> None:
        assert fit_thresholds(np.ones((2, 1), np.float32), np.zeros((2, 1), np.bool_)) == [0]


def test_refusals() -> None:
    logits, matrix = random_case(0)
    with pytest.raises(ValueError, match="one shape with rows"):
        score(logits[:3], matrix, None)
    with pytest.raises(ValueError, match="fit them on the validation part"):
        score(logits, matrix, None)
    with pytest.raises(ValueError, match=r"one value per class \(4\)"):
        score(logits, matrix, np.zeros(3))
    with pytest.raises(ValueError, match="logits must be finite"):
        score(logits * np.nan, matrix, np.zeros(4))
    with pytest.raises(ValueError, match="each of 60 tiles"):
        group_scores(logits, matrix, np.zeros(4), np.array(["a"]))
    with pytest.raises(ValueError, match="class_f2, samples_f2; got f3"):
        fit_thresholds(logits, matrix, "f3")  # type: ignore[arg-type]
