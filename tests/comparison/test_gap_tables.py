"""Tables of gaps and matches on hand-made scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from balancer.comparison.gap_tables import ArmFacts, finite, gap_rows, match_rows, overall_rows

ARMS = [
    ArmFacts("baseline", "baseline", None, 500, published=False),
    ArmFacts("random target=6", "random", 6, 126, published=False),
    ArmFacts("undersample target=6", "undersample", 6, 126, published=False),
    ArmFacts("diverse target=6", "diverse", 6, 126, published=False),
    ArmFacts("random size=252", "random", None, 252, published=False),
]
NOISE = np.array([0.0, 0.01, -0.01])
VALUES = {
    ("net", "equal-updates", "plain"): {
        "baseline": 0.9 + NOISE,
        "random target=6": 0.6 + NOISE,
        "undersample target=6": 0.8 + NOISE[::-1],
        "diverse target=6": 0.7 + NOISE,
        "random size=252": 0.8 + NOISE,
    }
}


def test_half_of_the_gap() -> None:
    [row] = gap_rows(VALUES, "macro_recall", ARMS)
    assert row["method"] == "diverse target=6"
    assert row["gain"] == pytest.approx(0.1)
    assert row["gap"] == pytest.approx(0.2)
    assert row["closed"] == pytest.approx(0.5)
    assert row["has_gap"]
    assert "closes 50% of the gap" in row["sentence"]


def test_no_gap_is_reported_as_none() -> None:
    same = {
        key: {**arms, "undersample target=6": 0.6 + NOISE[[1, 2, 0]]}
        for key, arms in VALUES.items()
    }
    [row] = gap_rows(same, "macro_recall", ARMS)
    assert not row["has_gap"]
    assert "is not told from nothing, so no share of it is" in row["sentence"]


def test_random_images_that_match() -> None:
    rows = {row["method"]: row for row in match_rows(VALUES, "macro_recall", ARMS)}
    # Halfway in score between 126 and 252 images is halfway in the logarithm.
    assert rows["diverse target=6"]["random_images"] == pytest.approx(126 * math.sqrt(2))
    assert rows["diverse target=6"]["factor"] == pytest.approx(math.sqrt(2))
    assert rows["undersample target=6"]["words"].startswith("252 (")


def test_differences_to_the_baseline() -> None:
    rows = {row["arm"]: row for row in overall_rows(VALUES, "macro_recall", "top1", ARMS)}
    assert rows["random target=6"]["difference"] == pytest.approx(-0.3)
    assert rows["random target=6"]["p_corrected"] < 0.001
    assert rows["baseline"]["p"] is None


def test_json_has_no_nan() -> None:
    assert finite({"a": [float("nan"), 1.0, (float("inf"),)]}) == {"a": [None, 1.0, [None]]}
