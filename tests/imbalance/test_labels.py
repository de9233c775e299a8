from __future__ import annotations

import numpy as np
import pytest

from balancer.imbalance.label_measures import (
    cooccurrence,
    imbalance_ratios,
    imbalance_variation,
    mean_imbalance_ratio,
)
from balancer.imbalance.labels import LabelTable, label_table
from balancer.imbalance.low_frequency import LowFrequencyRule, low_frequency


def test_a_repeated_label_counts_once_and_classes_are_sorted() -> None:
    table = label_table(["x", "y"], [["mine", "clear", "mine"], []])
    assert table.classes == ("clear", "mine")
    assert table.counts().tolist() == [1, 1]
    assert not table.is_single_label


def test_top_class_and_take() -> None:
    table = label_table(
        ["x", "y", "z"],
        [["b"], ["a"], ["b"]],
        classes=["b", "c", "a"],
        columns={"site": np.array([1, 2, 3])},
    )
    assert table.is_single_label
    assert table.top_class().tolist() == [0, 2, 0]
    part = table.take(np.array([2, 1]))
    assert part.ids.tolist() == ["z", "y"]
    assert part.columns["site"].tolist() == [3, 2]
    assert part.counts().tolist() == [1, 0, 1]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="'x' has 2"):
        label_table(["x"], [["a", "b"]]).top_class()
    with pytest.raises(ValueError, match=r"must be among the 1 classes; x has 'b'"):
        label_table(["x"], [["b"]], classes=["a"])
    with pytest.raises(ValueError, match="1 repeat, the first is 'x'"):
        label_table(["x", "x"], [["a"], ["a"]])
    with pytest.raises(ValueError, match="labels for each of 2 ids; got 1"):
        label_table(["x", "y"], [["a"]])
    with pytest.raises(ValueError, match="Classes must be distinct"):
        label_table(["x"], [["a"]], classes=["a", "a"])
    with pytest.raises(ValueError, match=r"one value per tile \(1\); got shape \(2,\)"):
        label_table(["x"], [["a"]], columns={"site": np.array([1, 2])})
    with pytest.raises(ValueError, match="must be boolean of shape"):
        LabelTable(np.array(["x"]), ("a",), np.ones((1, 2), np.bool_))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("percentile_25", [0, 0, 1, 0, 1]),  # the 25th percentile is the second smallest, 10
        ("tenth_of_max", [0, 0, 0, 0, 1]),  # 10 is not under a tenth of 100
    ],
)
def test_a_count_at_the_threshold(rule: LowFrequencyRule, expected: list[int]) -> None:
    counts = np.array([100, 20, 10, 50, 9])
    assert low_frequency(counts, rule).tolist() == [bool(value) for value in expected]


def test_low_frequency_refusals() -> None:
    with pytest.raises(ValueError, match="percentile_25, tenth_of_max; got 'rare'"):
        low_frequency(np.array([1]), "rare")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one class"):
        low_frequency(np.array([], dtype=np.int64))


def test_imbalance_by_hand() -> None:
    counts = np.array([12, 6, 3, 0])
    assert imbalance_ratios(counts)[:3].tolist() == [1, 2, 4]
    assert np.isnan(imbalance_ratios(counts)[3])
    assert mean_imbalance_ratio(counts) == pytest.approx(7 / 3)
    # The deviations from 7/3 are -4/3, -1/3 and 5/3: variance (16 + 1 + 25) / 9 / 2 = 7/3.
    assert imbalance_variation(counts) == pytest.approx((7 / 3) ** 0.5 / (7 / 3))
    assert imbalance_variation(np.array([5])) == 0
    with pytest.raises(ValueError, match="none has"):
        mean_imbalance_ratio(np.zeros(3, np.int64))


def test_cooccurrence_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((50, 4)) < 0.4
    found = cooccurrence(matrix)
    for a in range(4):
        for b in range(4):
            assert found[a, b] == (matrix[:, a] & matrix[:, b]).sum()
