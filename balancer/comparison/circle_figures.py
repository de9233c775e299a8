"""Figures 1 to 6 of the Biased Circles study, numbered as in the paper, as PNG bytes.

5b and 5c are ours: the models beside the fitted one, and the perceptron with equal gradient steps.
Error bars are one sample standard deviation over the seeds.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from balancer.comparison.circle_scores import (
    HEADLINE_POINTS,
    Score,
    curve,
    random_points_to_match,
)
from balancer.comparison.circle_study import TITLES
from balancer.comparison.circle_table import (
    HEADER,
    PAPER_ROW,
    READING,
    describe_match,
    table_rows,
)
from balancer.comparison.circles import FIXTURES, METHODS, NUM_RINGS, Circles
from balancer.types import IntArray

DPI = 150
COLORS = {"random": "#D55E00", "diverse": "#0072B2"}
MARKERS = {"random": "s", "diverse": "o"}
_RING_COLORS = mpl.colormaps["tab10"]


def draw_figures(scores: Sequence[Score], circles: Mapping[str, Circles]) -> dict[str, bytes]:
    """Draw every figure that the scores allow.

    Args:
        scores: of one or more fixtures.
        circles: one drawn archive per fixture name, for the scatter plots.

    Returns:
        PNG bytes by file name.
    """
    names = list(circles)
    fitted = [(name, FIXTURES[name].models[0]) for name in names]
    others = [(name, model) for model in ("knn", "tree") for name in names]
    figures = {
        "figure_1_archive.png": _scatter(circles, "archive"),
        "figure_2_random.png": _scatter(circles, "random"),
        "figure_3_diverse.png": _scatter(circles, "diverse"),
        "figure_4_table.png": _table(scores),
        "figure_5_accuracy.png": _accuracy(
            scores, fitted, "Figure 5: test accuracy against size of the training set"
        ),
        "figure_5b_other_models.png": _accuracy(
            scores, others, "Figure 5b: the same sets, models that were not fitted to the paper"
        ),
        "figure_6_class_size_std.png": _balance(scores, fitted),
    }
    steps = [
        (s, m) for s in names for m in TITLES if m.endswith("-steps") and _scored(scores, s, m)
    ]
    if steps:
        figures["figure_5c_equal_steps.png"] = _accuracy(
            scores, steps, "Figure 5c: as many gradient steps for every size"
        )
    return {name: _png(figure) for name, figure in figures.items()}


def _table(scores: Sequence[Score]) -> Figure:
    """Draw Figure 4, with the paper's own row on top."""
    rows = [PAPER_ROW, *table_rows(scores)]
    figure = Figure(figsize=(13, 0.25 * len(rows) + 1.8))
    figure.suptitle(f"Figure 4: accuracy of models trained on {HEADLINE_POINTS} points")
    axes = figure.add_axes((0.02, 0.0, 0.96, 0.89))
    axes.axis("off")
    table = axes.table(
        cellText=[list(row) for row in rows],
        colLabels=list(HEADER),
        colWidths=[0.09, 0.22, 0.15, 0.15, 0.09, 0.15, 0.15],
        cellLoc="center",
        loc="upper center",
    )
    table.auto_set_font_size(value=False)
    table.set_fontsize(10)
    table.scale(1, 1.45)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#cccccc")
        if row == 0:
            cell.set_text_props(weight="bold")
            cell.set_facecolor("#eeeeee")
        elif column in (2, 3) and row > 1:
            cell.set_text_props(color=COLORS[METHODS[column - 2]])
    notes = "\n".join(textwrap.fill(note, 165) for note in READING)
    figure.text(0.02, 0.02, notes, fontsize=8.5, color="#333333", va="bottom")
    return figure


def _scatter(circles: Mapping[str, Circles], which: str) -> Figure:
    titles = {
        "archive": "Figure 1: Biased Circles, {0:,} points on ten rings, colored by ring (class)",
        "random": "Figure 2: {0} points chosen at random",
        "diverse": "Figure 3: {0} points chosen by farthest-point selection",
    }
    figure = Figure(figsize=(5.4 * len(circles), 5.9), layout="constrained")
    panels = figure.subplots(1, len(circles), squeeze=False)[0]
    shown = 0
    for axes, (name, drawn) in zip(panels, circles.items(), strict=True):
        all_rows: IntArray = np.arange(len(drawn.points))
        rows = all_rows if which == "archive" else drawn.training_rows(which, HEADLINE_POINTS)
        shown = len(rows)
        points, rings = drawn.points[rows], drawn.rings[rows]
        axes.scatter(*points.T, c=_RING_COLORS(rings), s=4 if which == "archive" else 9, lw=0)
        sizes = np.bincount(rings, minlength=NUM_RINGS)
        axes.set_title(
            f"{FIXTURES[name].title}\npoints per ring, outer to inner:\n"
            + ", ".join(map(str, sizes)),
            fontsize=9,
        )
        axes.set(xlabel="x (units of the radii)", ylabel="y (units of the radii)", aspect="equal")
    figure.suptitle(titles[which].format(shown))
    return figure


def _accuracy(scores: Sequence[Score], panels: Sequence[tuple[str, str]], title: str) -> Figure:
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 4.4 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False, sharey=True).ravel()
    for axes, (name, model) in zip(grid, panels, strict=False):
        _curves(axes, scores, (name, model), "accuracy")
        matched = _mark_match(axes, scores, name, model)
        axes.set_title(f"{TITLES[model]}, {name.upper()} rings\n{matched}", fontsize=10)
        axes.set_ylabel("accuracy on a balanced test set (0 to 1)")
        axes.set_ylim(0.3, 1.03)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    figure.suptitle(title)
    return figure


def _mark_match(axes: Axes, scores: Sequence[Score], name: str, model: str) -> str:
    """Draw the level of 500 diverse points across to where the random curve reaches it."""
    target = float(curve(scores, name, model, "diverse").at(HEADLINE_POINTS).mean())
    matched = random_points_to_match(scores, name, model)
    largest = max(score.num_points for score in scores)
    end = largest if math.isnan(matched) else matched
    axes.plot([HEADLINE_POINTS, end], [target, target], color="#555555", lw=1, ls="--")
    return f"random points that match {HEADLINE_POINTS} diverse: {describe_match(matched, largest)}"


def _balance(scores: Sequence[Score], panels: Sequence[tuple[str, str]]) -> Figure:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, model) in zip(grid, panels, strict=True):
        _curves(axes, scores, (name, model), "class_size_std")
        axes.set_title(FIXTURES[name].title, fontsize=10)
        axes.set_ylabel("standard deviation of class sizes (points)")
        axes.set_ylim(bottom=0)
    figure.suptitle("Figure 6: imbalance of the training sets (0 would be perfectly balanced)")
    return figure


def _curves(axes: Axes, scores: Sequence[Score], panel: tuple[str, str], measure: str) -> None:
    for method in METHODS:
        found = curve(scores, *panel, method, measure)
        axes.errorbar(
            found.num_points,
            found.mean,
            yerr=found.std,
            color=COLORS[method],
            marker=MARKERS[method],
            markersize=4.5,
            capsize=3,
            lw=1.6,
            label=f"{method} ({len(found.values)} seeds)",
        )
    axes.set_xlabel("training points n (of 4,500)")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=9, framealpha=1.0)


def _scored(scores: Sequence[Score], name: str, model: str) -> bool:
    return any((score.fixture, score.model) == (name, model) for score in scores)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
