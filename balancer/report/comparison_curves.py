"""Figures of a comparison across sizes and arms: learning curves, subsets, differences."""

from __future__ import annotations

from collections.abc import Iterator

from balancer.report.comparison_content import (
    ALL,
    CLASS,
    EQUAL_EPOCHS,
    PLAIN,
    ComparisonContent,
    Interval,
    SummaryRow,
)
from balancer.report.comparison_files import ComparisonFigure, error_bars, plain_name
from balancer.report.style import (
    COMPARED,
    CYCLE,
    INK,
    MARKERS,
    MUTED,
    Canvas,
    safe_text,
    shorten,
)


def curves(content: ComparisonContent, encoder: str) -> Iterator[ComparisonFigure]:
    """Draw score and class-size deviation against the number of training images."""
    main = str(content.facts["main_score"])
    wanted = {"P5": (main, f"{main.replace('_', ' ')} (0 to 1)"),
              "P6": ("class_std", "standard deviation of class sizes (images)")}  # fmt: skip
    for number, (score, label) in wanted.items():
        for updates in dict.fromkeys(row.updates for row in content.rows):
            if number == "P6" and updates != EQUAL_EPOCHS:
                continue
            rows = list(
                content.select(
                    encoder=encoder, scope=ALL, score=score, updates=updates, loss=PLAIN,
                    decision=content.decision,
                )
            )  # fmt: skip
            sizes = {
                row.arm: row.value.mean
                for row in content.select(
                    encoder=encoder, scope=ALL, score="num_distinct", updates=updates, loss=PLAIN,
                    decision=content.decision,
                )
            }  # fmt: skip
            lines = {
                name: sorted(
                    (row for row in rows if _line(row) == name), key=lambda row: sizes[row.arm]
                )
                for name in dict.fromkeys(map(_line, rows))
                if name
            }
            if len(lines.get("random", [])) < 2:
                continue
            figure = number.replace("P", "Patel Figure ")
            title = (
                f"In the manner of {figure}: {label.partition(' (')[0]} against size, "
                f"{content.dataset}, {encoder}, {updates.replace('-', ' ')}"
            )
            canvas = Canvas(title, width=6.0, height=4.0)
            for place, (name, points) in enumerate(lines.items()):
                values = [row.value for row in points]
                canvas.axes.errorbar(
                    [sizes[row.arm] for row in points],
                    [value.mean for value in values],
                    yerr=error_bars(values),
                    marker=MARKERS[place % len(MARKERS)],
                    color=COMPARED if name == "random" else CYCLE[place % len(CYCLE)],
                    markersize=4.5,
                    linewidth=1.4 if len(points) > 1 else 0,
                    elinewidth=1,
                    capsize=2,
                    label=safe_text(name),
                )
            canvas.label("training images (different ones)", label)
            canvas.legend_below(3)
            alt = f"{label} against training images for {len(lines)} ways of picking them."
            slug = f"patel_{number[1:]}_{plain_name(encoder)}_{updates}"
            yield ComparisonFigure(slug, title, encoder, canvas.picture(alt), canvas.png())


def _line(row: SummaryRow) -> str:
    """Return which curve an arm is a point of; empty for none."""
    if row.strategy in ("random", "diverse", "undersample", "diverse_per_class", "baseline"):
        words = [word for word in row.arm.split() if "=" not in word]
        return " ".join(words)
    return ""


def subset_bars(content: ComparisonContent) -> Iterator[ComparisonFigure]:
    """Draw the class sizes of the random and the diverse set of one size (Patel Figure 7)."""
    names = content.classes()
    for encoder in content.facts["encoders"]:
        rows = [
            row
            for row in content.select(
                encoder=encoder, scope=CLASS, score="train_count", updates=EQUAL_EPOCHS, loss=PLAIN,
                decision=content.decision,
            )
            if row.strategy in ("random", "diverse", "undersample") and "size=" not in row.arm
        ]  # fmt: skip
        arms = list(dict.fromkeys(row.arm for row in rows))[:4]
        if len(arms) < 2:
            continue
        title = (
            f"In the manner of Patel Figure 7: class sizes of subsets, {content.dataset}, {encoder}"
        )
        canvas = Canvas(title, width=6.4, height=1.6 + 0.36 * len(names), margin=1.6)
        found = {(row.arm, row.name): row.value for row in rows}
        height = 0.82 / len(arms)
        for number, arm in enumerate(arms):
            values = [found[arm, name] for name in names]
            canvas.axes.barh(
                [i - 0.41 + height * (number + 0.5) for i in range(len(names))],
                [value.mean for value in values],
                height,
                xerr=error_bars(values),
                color=CYCLE[number],
                error_kw={"linewidth": 0.8, "capsize": 1.5, "ecolor": INK},
                label=safe_text(arm),
            )
        canvas.axes.set_yticks(
            range(len(names)), [safe_text(shorten(name, 24)) for name in names]
        )  # fmt: skip
        canvas.axes.invert_yaxis()
        canvas.axes.grid(visible=False, axis="y")
        canvas.axes.set_xlim(left=0)
        canvas.label("images (mean over pools and seeds)", "class")
        canvas.legend_below(2)
        alt = f"Class sizes of {len(arms)} subsets of one size."
        slug = f"patel_7_{plain_name(encoder)}"
        yield ComparisonFigure(slug, title, encoder, canvas.picture(alt), canvas.png())


def overviews(content: ComparisonContent) -> Iterator[ComparisonFigure]:
    """Draw every arm's difference to the baseline, one figure per encoder."""
    for encoder in content.facts["encoders"]:
        rows = [
            row
            for row in content.facts["overall"]
            if row["encoder"] == encoder
            and row["score"] == content.facts["main_score"]
            and row["loss"] == PLAIN
            and row["arm"] != "baseline"
        ]
        if not rows:
            continue
        arms = list(dict.fromkeys(row["arm"] for row in rows))
        kinds = list(dict.fromkeys(row["updates"] for row in rows))
        name = str(content.facts["main_score"]).replace("_", " ")
        title = f"{name.capitalize()} over the baseline, {content.dataset}, {encoder}"
        canvas = Canvas(title, width=6.6, height=1.5 + 0.3 * len(arms), margin=2.4)
        for number, updates in enumerate(kinds):
            found = {row["arm"]: row for row in rows if row["updates"] == updates}
            values = [
                Interval(found[a]["difference"], found[a]["low"], found[a]["high"]) for a in arms
            ]
            canvas.axes.errorbar(
                [100 * value.mean for value in values],
                [i + 0.22 * (number - (len(kinds) - 1) / 2) for i in range(len(arms))],
                xerr=error_bars(values, 100),
                fmt=MARKERS[number],
                color=CYCLE[number],
                markersize=4,
                linewidth=1,
                capsize=2,
                label=updates.replace("-", " "),
            )
        canvas.axes.axvline(0, color=MUTED, linewidth=1)
        canvas.axes.set_yticks(range(len(arms)), [safe_text(shorten(arm, 40)) for arm in arms])
        canvas.axes.invert_yaxis()
        canvas.label("difference to the baseline (points), 95 % interval", "")
        canvas.legend_below(2)
        alt = f"Differences of {len(arms)} arms to the baseline with 95 % intervals."
        slug = f"overview_{plain_name(encoder)}"
        yield ComparisonFigure(slug, title, "Overview", canvas.picture(alt), canvas.png())
