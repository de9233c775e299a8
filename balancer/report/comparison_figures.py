"""The figures of a labeled comparison, under the numbers of the papers they repeat.

Numbers without a prefix are those of Panigrahi and Zhu, "Comparing Importance Sampling Based
Methods for Mitigating the Effect of Class Imbalance", second version; `v1` those of the first. `P`
are those of Patel et al., "Scalable Data Balancing for Unlabeled Satellite Imagery". Where the data
set or the encoder is another than the paper's, the title says which. Error bars are 95 % intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from balancer.report.comparison_content import (
    CLASS,
    EQUAL_EPOCHS,
    PLAIN,
    ComparisonContent,
    Interval,
    SummaryRow,
)
from balancer.report.comparison_curves import curves, overviews, subset_bars
from balancer.report.comparison_files import ComparisonFigure, error_bars, plain_name
from balancer.report.comparison_rounds import round_curves
from balancer.report.style import (
    ARCHIVE,
    CYCLE,
    INK,
    MARKERS,
    SELECTED,
    Canvas,
    safe_text,
    shorten,
)

ACCURACY, RECALL = "accuracy", "recall"
_PUBLISHED = {
    "planet": {"CLIP": "a", "ResNet-18": "b"},
    "ade20k": {"CLIP": "", "ResNet-18": ""},
}
"""Which letter an encoder's figure has in the paper."""
_NUMBERS = {
    "planet": {"counts": "1", "under": "7a", "over": "7b", "low": "9", "rest": "10",
               "sampled low": "13", "sampled rest": "14"},
    "ade20k": {"counts": "4", "low": "11", "rest": "12", "sampled low": "v1 12a",
               "sampled rest": "v1 12b"},
}  # fmt: skip
_ROLES = {
    "counts": "class frequencies",
    "under": "class frequencies after undersampling",
    "over": "class frequencies after oversampling",
    "low": "low-frequency classes under reweighting",
    "rest": "remaining classes under reweighting",
    "sampled low": "low-frequency classes under resampling",
    "sampled rest": "remaining classes under resampling",
}
_TITLES = {
    ACCURACY: "accuracy as published",
    RECALL: "recall",
    "average_precision": "average precision",
}


def draw_comparison(content: ComparisonContent) -> list[ComparisonFigure]:
    """Draw every figure that the comparison's arms allow; the same content, the same bytes."""
    figures = list(_frequencies(content))
    for encoder in content.facts["encoders"]:
        for role, low in (("low", True), ("rest", False)):
            figures += _by_class(content, encoder, role, low, _reweighted)
            figures += _by_class(content, encoder, f"sampled {role}", low, _resampled)
        figures += curves(content, encoder)
    figures += subset_bars(content)
    figures += round_curves(content)
    figures += overviews(content)
    return figures


def figure_title(content: ComparisonContent, role: str, encoder: str | None = None) -> str:
    """Return the title with the paper's number, and whether data and encoder are the paper's."""
    kind = content.facts["kind"]
    numbers = _NUMBERS.get(kind) or _NUMBERS["planet"]
    number = numbers.get(role, "")
    if not number:
        return f"{_ROLES[role].capitalize()}, {content.dataset}"
    letter = _PUBLISHED.get(kind, {}).get(encoder or "", None)
    same = kind in _NUMBERS and not content.facts["synthetic"]
    if number.startswith("v1") or encoder is None:
        letter = "" if same else None
    suffix = letter if letter is not None and same else ""
    manner = "Figure" if same and letter is not None else "In the manner of Figure"
    who = f", {encoder}" if encoder else ""
    return f"{manner} {number}{suffix}: {_ROLES[role]}, {content.dataset}{who}"


def _frequencies(content: ComparisonContent) -> Iterator[ComparisonFigure]:
    names = content.classes()
    counts = content.facts["class_counts"]
    low = set(content.facts["low_classes"])
    title = figure_title(content, "counts")
    values = [Interval(float(counts[name]), math.nan, math.nan) for name in names]
    yield _bars(title, _slug(content, "counts"), "Data", names, values, low)
    for role, strategy in (("under", "undersample"), ("over", "oversample")):
        rows = list(
            content.select(
                strategy=strategy, scope=CLASS, score="train_count", updates=EQUAL_EPOCHS,
                loss=PLAIN, decision=content.decision,
            )
        )  # fmt: skip
        arms = dict.fromkeys(row.arm for row in rows)
        encoder = next(iter(content.facts["encoders"]))
        for arm in arms:
            found = {r.name: r.value for r in rows if r.arm == arm and r.encoder == encoder}
            yield _bars(
                f"{figure_title(content, role)} ({arm}, training part)",
                f"{_slug(content, role)}_{plain_name(arm)}",
                "Data",
                names,
                [found[name] for name in names],
                low,
            )


def _bars(
    title: str,
    slug: str,
    section: str,
    names: Sequence[str],
    values: Sequence[Interval],
    low: set[str],
) -> ComparisonFigure:
    canvas = Canvas(title, width=6.4, height=1.4 + 0.24 * len(names), margin=1.4)
    place = range(len(names))
    means = [value.mean for value in values]
    for rare, label, color in ((False, "class", ARCHIVE), (True, "low-frequency class", SELECTED)):
        mine = [i for i in place if (names[i] in low) == rare]
        if mine:
            canvas.axes.barh(mine, [means[i] for i in mine], 0.75, color=color, label=label)
    spans = [i for i in place if math.isfinite(values[i].low)]
    canvas.axes.errorbar(
        [means[i] for i in spans], spans, xerr=error_bars([values[i] for i in spans]), fmt="none",
        ecolor=INK, capsize=2, linewidth=1,
    )  # fmt: skip
    top = max(means, default=1.0)
    for i in place:
        canvas.axes.text(means[i] + 0.01 * top, i, f" {means[i]:,.0f}", va="center", fontsize=7.5)
    canvas.axes.set_yticks(list(place), [safe_text(shorten(name, 24)) for name in names])
    canvas.axes.invert_yaxis()
    canvas.axes.set_xlim(0, 1.14 * top)
    canvas.axes.grid(visible=False, axis="y")
    canvas.label("images", "class")
    canvas.legend_below(2)
    alt = f"Bar chart of {len(names)} classes, from {max(means):,.0f} to {min(means):,.0f} images."
    return ComparisonFigure(slug, title, section, canvas.picture(alt), canvas.png())


Chooser = Callable[[ComparisonContent, SummaryRow], bool]


def _reweighted(content: ComparisonContent, row: SummaryRow) -> bool:
    del content
    return row.strategy == "baseline" or (
        row.strategy == "reweight" and "as_published" not in row.arm
    )


def _resampled(content: ComparisonContent, row: SummaryRow) -> bool:
    del content
    return row.strategy in ("baseline", "undersample", "oversample")


def _by_class(
    content: ComparisonContent, encoder: str, role: str, low: bool, chosen: Chooser
) -> Iterator[ComparisonFigure]:
    """Draw accuracy as published, and recall, of some classes for some arms."""
    names = content.classes(low=low, ascending=role == "sampled rest")
    for score, updates in (
        (ACCURACY, EQUAL_EPOCHS),
        (RECALL, EQUAL_EPOCHS),
        (RECALL, "equal-updates"),
    ):
        rows = [
            row
            for row in content.select(
                encoder=encoder, scope=CLASS, score=score, updates=updates, loss=PLAIN,
                decision="thresholds",
            )
            if chosen(content, row)
        ]  # fmt: skip
        arms = list(dict.fromkeys(row.arm for row in rows))
        if len(arms) < 2 or not names:
            continue
        suffix = "" if score == ACCURACY else f": {_TITLES[score]}, {updates.replace('-', ' ')}"
        title = figure_title(content, role, encoder) + suffix
        width = max(5.2, 1.6 + 0.62 * len(names))
        canvas = Canvas(title, width=width, height=4.2)
        found = {(row.arm, row.name): row.value for row in rows}
        step = 0.8 / len(arms)
        for number, arm in enumerate(arms):
            values = [found[arm, name] for name in names]
            canvas.axes.errorbar(
                [i - 0.4 + step * (number + 0.5) for i in range(len(names))],
                [value.mean for value in values],
                yerr=error_bars(values),
                fmt=MARKERS[number % len(MARKERS)],
                color=CYCLE[number % len(CYCLE)],
                markersize=4,
                linewidth=1,
                capsize=2,
                label=safe_text(arm),
            )
        canvas.axes.set_xticks(
            range(len(names)), [safe_text(shorten(name, 18)) for name in names],
            rotation=35, ha="right",
        )  # fmt: skip
        canvas.axes.grid(visible=False, axis="x")
        bottom, top = canvas.axes.get_ylim()
        canvas.axes.set_ylim(max(bottom, -0.04), min(top, 1.04))  # intervals may reach beyond
        order = "ascending" if role == "sampled rest" else "descending"
        canvas.label(f"{content.class_word}, by {order} frequency", f"{_TITLES[score]} (0 to 1)")
        canvas.legend_below(max(2, int(width / 2)))
        alt = (
            f"{_TITLES[score]} of {len(names)} classes under {len(arms)} settings, with intervals."
        )
        slug = f"{_slug(content, role)}_{plain_name(encoder)}_{score}_{updates}"
        yield ComparisonFigure(slug, title, encoder, canvas.picture(alt), canvas.png())


def _slug(content: ComparisonContent, role: str) -> str:
    kind = content.facts["kind"]
    number = (_NUMBERS.get(kind) or _NUMBERS["planet"]).get(role, "")
    return f"figure_{plain_name(number or 'x')}_{plain_name(role)}"
