"""The table of the Biased Circles study (Figure 4 of the paper) as rows of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from balancer.comparison.circle_scores import (
    HEADLINE_POINTS,
    Score,
    curve,
    random_points_to_match,
)
from balancer.comparison.circle_study import TITLES
from balancer.comparison.circles import FIXTURES, METHODS

HEADER = (
    "Rings",
    "Model",
    "Random 500",
    "Diverse 500",
    "Gain",
    "Random to match",
    "Archive-like test set",
)
PAPER_ROW = ("Paper", "not stated", "0.484 ± 0.003", "0.906 ± 0.011", "+0.422", "2.5x", "")
"""What the paper states; its text says "about 250%" of the data."""
READING = (
    "Accuracy on a balanced test set, mean ± standard deviation over seeds. The fixtures were "
    "fitted to the paper's row: a reconstruction, not the authors' setup.",
    "Random to match: how many random points reach the accuracy of 500 diverse ones, and "
    "their ratio to 500.",
    "MLP rows with a number of steps train every set for that many. Where random 500 comes "
    "close to diverse 500 there, the gain of the 60-epoch row is one of training time, not of "
    "information in the data.",
    "Archive-like test set: random / diverse 500 on a test set as imbalanced as the archive.",
)


def table_rows(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """Return one row per fixture and model, with the columns of `HEADER`."""
    largest = max(score.num_points for score in scores)
    rows = []
    for name in FIXTURES:
        for model in TITLES:
            if not any((score.fixture, score.model) == (name, model) for score in scores):
                continue
            at_500 = [curve(scores, name, model, method).at(HEADLINE_POINTS) for method in METHODS]
            archive = [
                curve(scores, name, model, method, "archive_accuracy").at(HEADLINE_POINTS).mean()
                for method in METHODS
            ]
            rows.append(
                (
                    name.upper(),
                    TITLES[model],
                    *(f"{a.mean():.3f} ± {a.std(ddof=1) if len(a) > 1 else 0:.3f}" for a in at_500),
                    f"{at_500[1].mean() - at_500[0].mean():+.3f}",
                    describe_match(random_points_to_match(scores, name, model), largest),
                    f"{archive[0]:.3f} / {archive[1]:.3f}",
                )
            )
    return rows


def describe_match(matched: float, largest: int) -> str:
    """Say how many random points match 500 diverse ones.

    >>> describe_match(1212.4, 4500), describe_match(float("nan"), 4500)
    ('1,212 (2.4x)', 'none up to 4,500')
    """
    if math.isnan(matched):
        return f"none up to {largest:,}"
    return f"{matched:,.0f} ({matched / HEADLINE_POINTS:.1f}x)"
