"""Figures across the rounds of a run: which encoders belong together, and what is drawn."""

from __future__ import annotations

from typing import Any

from balancer.report.comparison_content import ComparisonContent, Interval, SummaryRow
from balancer.report.comparison_rounds import encoders_by_run, round_curves

ENCODERS: list[dict[str, Any]] = [
    {"name": "frozen", "run": None, "round_index": 0},
    {"name": "first <b>", "run": "runs/a-{pool}", "round_index": 0},
    {"name": "third", "run": "runs/a-{pool}", "round_index": 2},
    {"name": "alone", "run": "runs/b", "round_index": 1},
]


def content(arms: tuple[str, ...], without: str = "") -> ComparisonContent:
    rows = [
        SummaryRow(
            encoder["name"], arm, arm.split()[0], 6.0, updates, "plain", "top1", "all", "all",
            score, Interval(0.5 + 0.1 * place, 0.4, 0.8),
        )
        for encoder in ENCODERS
        for place, arm in enumerate(arms)
        for updates in ("equal-epochs", "equal-updates")
        for score in ("macro_recall", "class_std")
        if f"{encoder['name']} {arm}" != without
    ]  # fmt: skip
    facts = {
        "config": {"encoders": ENCODERS},
        "main_score": "macro_recall",
        "single_label": True,
        "dataset": "tiny",
    }
    return ComparisonContent(facts, rows)


def test_rounds_of_one_run_belong_together() -> None:
    assert encoders_by_run(content(())) == {"runs/a-{pool}": {0: "first <b>", 2: "third"}}


def test_scores_by_arm_and_updates_and_deviations_once() -> None:
    figures = list(round_curves(content(("random target=6", "diverse medoid target=6"))))
    assert [figure.slug for figure in figures] == [
        "patel_8_first-b_equal-epochs",
        "patel_8_first-b_equal-updates",
        "patel_9_first-b_equal-epochs",
    ]
    assert figures[0].title.startswith("In the manner of Patel Figure 8: macro recall on the test")
    assert figures[0].png.startswith(b"\x89PNG")


def test_an_arm_that_a_round_lacks_is_no_line() -> None:
    arms = ("random target=6", "diverse medoid target=6", "random size=9", "baseline")
    assert list(round_curves(content(arms, without="third random target=6"))) == []
