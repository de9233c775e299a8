"""The plots of what changes from round to round: losses, balance, coverage, health."""

from __future__ import annotations

import math

from balancer.report.content import RoundRecord
from balancer.report.style import CYCLE, INK, MARKERS, SELECTED, Canvas, Picture
from balancer.report.vocabulary import MEASURES, format_value

RADII = ("covering_radius_100", "covering_radius_99", "covering_radius_95")
SINGLE = (
    "effective_clusters",
    "gini",
    "kl_to_uniform",
    "churn",
    "effective_rank",
    "retrieval_at_1",
    "alignment",
    "uniformity",
    "spread",
)
"""Measures with a plot of their own, in order."""

_SMALL = {"width": 3.7, "height": 2.5}


def loss_curves(rounds: tuple[RoundRecord, ...], loss_name: str) -> Picture | None:
    """Draw the loss of every epoch, the rounds one after the other; `None` without losses."""
    trained = [record for record in rounds if record.losses]
    if not trained:
        return None
    canvas = Canvas("Training loss")
    start = 0
    for place, record in enumerate(trained):
        epochs = range(start + 1, start + 1 + len(record.losses))
        canvas.axes.plot(
            epochs,
            record.losses,
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            color=CYCLE[place % len(CYCLE)],
            label=f"round {record.index}",
        )
        start += len(record.losses)
        if place < len(trained) - 1:
            canvas.axes.axvline(start + 0.5, color=INK, linewidth=0.8, linestyle=":")
    canvas.whole_numbers(x=True)
    canvas.label("epoch, counted over all rounds", loss_name)
    canvas.legend_below(min(5, len(trained)))
    first, last = trained[0].losses[0], trained[-1].losses[-1]
    return canvas.picture(
        f"Line chart of the {loss_name}: {format_value(first)} in the first epoch, "
        f"{format_value(last)} in the last of {start}."
    )


def covering_radii(rounds: tuple[RoundRecord, ...]) -> Picture | None:
    """Draw the covering radii at 100, 99 and 95 % of the archive; `None` where not measured."""
    drawn = [key for key in RADII if _series(rounds, key)]
    if not drawn:
        return None
    canvas = Canvas("Covering radius")
    for place, key in enumerate(drawn):
        points = _series(rounds, key)
        canvas.axes.plot(
            *zip(*points, strict=True),
            marker=MARKERS[place],
            markersize=5,
            color=CYCLE[place],
            label=MEASURES[key].label.removeprefix("Covering radius, ") + " of tiles",
        )
    _whole_rounds(canvas, rounds)
    canvas.axes.set_ylim(bottom=0)
    canvas.label("round", "distance to nearest pick")
    canvas.legend_below(3)
    return canvas.picture(
        f"Line chart over {len(rounds)} rounds of the distance within which 100, 99 and 95 % of "
        f"the archive have a picked tile."
    )


def measure_curves(rounds: tuple[RoundRecord, ...]) -> list[Picture]:
    """Draw each single measure over the rounds, leaving out those never measured."""
    return [_measure_curve(rounds, key) for key in SINGLE if _series(rounds, key)]


def _measure_curve(rounds: tuple[RoundRecord, ...], key: str) -> Picture:
    measure = MEASURES[key]
    scale = 100 if measure.style == "percent" else 1
    points = [(index, scale * value) for index, value in _series(rounds, key)]
    canvas = Canvas(measure.label, **_SMALL)
    x, y = zip(*points, strict=True)
    canvas.axes.plot(x, y, "o-", color=SELECTED, markersize=5)
    _whole_rounds(canvas, rounds)
    low, high = min(y), max(y)
    margin = max(0.15 * (high - low), 0.05 * abs(high), 1e-3)
    canvas.axes.set_ylim(low - margin, high + margin)
    unit = "%" if scale == 100 else measure.unit
    hint = f", {measure.better} is better" if measure.better else ""
    canvas.label("round", f"{unit}{hint}")
    last = points[-1][1] / scale
    return canvas.picture(
        f"Line chart of {measure.label.lower()} over {len(points)} rounds; "
        f"{format_value(last, measure.style)} after round {points[-1][0]}."
    )


def _series(rounds: tuple[RoundRecord, ...], key: str) -> list[tuple[int, float]]:
    pairs = ((record.index, record.values.get(key, math.nan)) for record in rounds)
    return [(index, value) for index, value in pairs if math.isfinite(value)]


def _whole_rounds(canvas: Canvas, rounds: tuple[RoundRecord, ...]) -> None:
    indices = [record.index for record in rounds]
    canvas.axes.set_xlim(min(indices) - 0.5, max(indices) + 0.5)
    canvas.whole_numbers(x=True)
