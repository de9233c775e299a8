"""A diagnosis of imbalance as one self-contained HTML page."""

from __future__ import annotations

import numpy as np

from balancer.imbalance.diagnosis import Diagnosis
from balancer.report.imbalance_text import diagnosis_tables
from balancer.report.style import ARCHIVE, INK, SELECTED, Canvas, Picture, safe_text, shorten
from balancer.report.templates import page_environment

MAX_CLASSES = 40
"""Classes drawn at most: the most frequent and the rarest halves of them."""


def render_imbalance_page(found: Diagnosis, source: str) -> str:
    """Return the page: tables and pictures, without scripts or links to the network.

    Every name is escaped. The same diagnosis gives the same text.

    Args:
        found: the diagnosis.
        source: what was diagnosed, for the heading.

    Cost: about 1 s for the two pictures.
    """
    pictures = [class_counts(found)]
    if any(found.together[a][b] for a in range(len(found.classes)) for b in range(a)):
        pictures.append(label_pairs(found))
    return (
        page_environment()
        .get_template("imbalance.html")
        .render(
            source=source,
            sentence=_sentence(found),
            tables=diagnosis_tables(found),
            pictures=pictures,
        )
    )


def class_counts(found: Diagnosis) -> Picture:
    """Draw the number of tiles of each class on a logarithmic axis, low-frequency ones apart."""
    kept = _kept(len(found.classes))
    rows = [found.classes[number] for number in kept]
    place = np.arange(len(rows))
    canvas = Canvas("Tiles per class", height=max(3.3, 1.2 + 0.2 * len(rows)))
    axes = canvas.axes
    for low, color, label in ((False, ARCHIVE, "other classes"), (True, SELECTED, "low-frequency")):
        mine = [number for number, row in enumerate(rows) if row.is_low == low]
        if mine:
            axes.barh(place[mine], [rows[i].count for i in mine], 0.7, color=color, label=label)
    limit = found.percentile_25
    if found.rule == "percentile_25" and limit > 0:
        axes.axvline(limit, color=INK, linewidth=1, linestyle=":", label="25th percentile")
    axes.set_xscale("log")
    axes.set_yticks(place, [safe_text(shorten(row.name, 24)) for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    canvas.label("tiles (logarithmic)", "")
    canvas.legend_below(3)
    most, least = found.classes[0], found.classes[-1]
    return canvas.picture(
        f"Bar chart of the tiles of {len(rows)} of {len(found.classes)} classes: from "
        f"{most.count:,} of {most.name} to {least.count:,} of {least.name}."
    )


def label_pairs(found: Diagnosis) -> Picture:
    """Draw which share of each class's tiles has each other label, as a map of shades."""
    kept = _kept(len(found.classes))
    names = [safe_text(shorten(found.classes[number].name, 18)) for number in kept]
    counts = np.array([max(1, found.classes[number].count) for number in kept])
    together = np.array(found.together, dtype=np.float64)[np.ix_(kept, kept)]
    shares = 100 * together / counts[:, None]
    np.fill_diagonal(shares, np.nan)
    size = 2.2 + 0.2 * len(names)
    canvas = Canvas("Labels that occur together", width=max(5.0, size + 0.8), height=size)
    axes = canvas.axes
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    canvas.label("has also this label", "of the tiles of this class")
    canvas.color_scale(drawn, "share of the class's tiles (%)")
    return canvas.picture(
        f"Shaded table of {len(names)} by {len(names)} classes: the share of the tiles of each "
        f"that has each other label."
    )


def _kept(num_classes: int) -> list[int]:
    if num_classes <= MAX_CLASSES:
        return list(range(num_classes))
    half = MAX_CLASSES // 2
    return [*range(half), *range(num_classes - half, num_classes)]


def _sentence(found: Diagnosis) -> str:
    low = [row.name for row in found.classes if row.is_low]
    named = ", ".join(low[:8]) + (", ..." if len(low) > 8 else "")
    return (
        f"{found.num_tiles:,} tiles of {len(found.classes):,} classes. The most frequent class has "
        f"{found.max_ratio:,.0f} times the tiles of the rarest. {len(low)} classes are "
        f"low-frequency ({named}); {found.num_with_low / found.num_tiles:.1%} of the tiles have "
        f"one of them."
    )
