"""Figures of a comparison across the rounds of a run (Patel Figures 8 and 9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from balancer.report.comparison_content import ALL, EQUAL_EPOCHS, PLAIN, ComparisonContent
from balancer.report.comparison_files import ComparisonFigure, error_bars, plain_name
from balancer.report.style import COMPARED, CYCLE, MARKERS, Canvas, safe_text

PICKED = ("random", "diverse", "undersample", "diverse_per_class")
"""Strategies that pick a subset, which are compared round by round."""


def encoders_by_run(content: ComparisonContent) -> dict[str, dict[int, str]]:
    """Return the names of encoders by run and round, of runs with several rounds compared."""
    found: dict[str, dict[int, str]] = {}
    encoders: list[Mapping[str, object]] = content.facts["config"]["encoders"]
    for encoder in encoders:
        if encoder.get("run"):
            rounds = found.setdefault(str(encoder["run"]), {})
            rounds[int(str(encoder["round_index"]))] = str(encoder["name"])
    return {run: rounds for run, rounds in found.items() if len(rounds) > 1}


def round_curves(content: ComparisonContent) -> Iterator[ComparisonFigure]:
    """Draw score and class-size deviation of each subset against the round of the encoder.

    The paper's Figure 8 is called "training accuracies" in its caption and test accuracy in its
    text; these are of the test part.
    """
    main = str(content.facts["main_score"])
    wanted = {
        "8": (main, f"{main.replace('_', ' ')} on the test part (0 to 1)"),
        "9": ("class_std", "standard deviation of class sizes (images)"),
    }
    for rounds in encoders_by_run(content).values():
        for number, (score, label) in wanted.items():
            for updates in dict.fromkeys(row.updates for row in content.rows):
                if number == "9" and updates != EQUAL_EPOCHS:
                    continue
                figure = _round_figure(content, rounds, (number, score, label), updates)
                if figure is not None:
                    yield figure


def _round_figure(
    content: ComparisonContent, rounds: Mapping[int, str], what: tuple[str, str, str], updates: str
) -> ComparisonFigure | None:
    number, score, label = what
    found = {
        (row.arm, row.encoder): row
        for row in content.select(
            scope=ALL, score=score, updates=updates, loss=PLAIN, decision=content.decision
        )
        if row.strategy in PICKED and "size=" not in row.arm
    }
    numbers = sorted(rounds)
    arms = [
        arm
        for arm in dict.fromkeys(arm for arm, _ in found)
        if all((arm, rounds[r]) in found for r in numbers)
    ]
    if len(arms) < 2:
        return None
    first = rounds[numbers[0]]
    title = (
        f"In the manner of Patel Figure {number}: {label.partition(' (')[0]} by round, "
        f"{content.dataset}, {first}, {updates.replace('-', ' ')}"
    )
    canvas = Canvas(title, width=6.0, height=4.0)
    for place, arm in enumerate(arms):
        values = [found[arm, rounds[r]].value for r in numbers]
        step = 0.06 * (place - (len(arms) - 1) / 2)
        canvas.axes.errorbar(
            [r + step for r in numbers],
            [value.mean for value in values],
            yerr=error_bars(values),
            marker=MARKERS[place % len(MARKERS)],
            color=COMPARED if arm.startswith("random") else CYCLE[place % len(CYCLE)],
            markersize=4.5,
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            label=safe_text(arm),
        )
    canvas.axes.set_xticks(numbers)
    canvas.label("round of the encoder", label)
    canvas.legend_below(2)
    alt = f"{label} of {len(arms)} subsets over {len(numbers)} rounds."
    slug = f"patel_{number}_{plain_name(first)}_{updates}"
    return ComparisonFigure(slug, title, "Rounds", canvas.picture(alt), canvas.png())
