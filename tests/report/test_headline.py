from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.report.content import OutcomeColumn, ReportContent
from balancer.report.headline import headline, judge, key_figures
from balancer.report.vocabulary import MEASURES


def test_headline_with_labels(content: ReportContent) -> None:
    assert headline(content) == (
        "600 of 4,500 tiles picked; rare-class coverage 21.0 % (random: 3.0 %); "
        "effective classes 1.80 \N{RIGHTWARDS ARROW} 2.90 (random: 1.80)."
    )


def test_headline_without_labels_and_worse_than_random(content: ReportContent) -> None:
    outcome = (
        OutcomeColumn("Archive", "archive", {"gini": 0.5}),
        OutcomeColumn("Random", "compared", {"gini": 0.48}),
        OutcomeColumn("Balanced", "selected", {"gini": 0.6}),
    )
    assert headline(replace(content, outcome=outcome)) == (
        "600 of 4,500 tiles picked; gini coefficient 0.500 \N{RIGHTWARDS ARROW} 0.600 "
        "(random: 0.480, worse than that)."
    )


def test_headline_without_measures(content: ReportContent) -> None:
    assert headline(replace(content, outcome=())) == "600 of 4,500 tiles picked."


@pytest.mark.parametrize(
    ("key", "value", "reference", "spread", "expected"),
    [
        ("gini", 0.2, 0.5, 0.0, "better"),
        ("effective_clusters", 20.0, 50.0, 0.0, "worse"),
        ("gini", 0.499, 0.5, 0.0, "same"),
        ("gini", 0.45, 0.5, 0.06, "same"),
        ("gini", None, 0.5, 0.0, ""),
        ("gini", float("nan"), 0.5, 0.0, ""),
        ("churn", 0.1, 0.5, 0.0, ""),
    ],
)
def test_judge(
    key: str, value: float | None, reference: float | None, spread: float, expected: str
) -> None:
    assert judge(key, value, reference, spread) == expected


def test_key_figures_fill_one_line_and_compare_what_can_be_compared(
    content: ReportContent,
) -> None:
    values = dict.fromkeys(MEASURES, 0.5)
    outcome = tuple(replace(column, values=values) for column in content.outcome)
    figures = key_figures(replace(content, outcome=outcome))
    assert len(figures) == 6
    assert figures[0].context == "of 4,500 (13.3 %)"
    radius = next(figure for figure in figures if figure.label == "Covering radius, 99 %")
    assert "archive" not in radius.context
