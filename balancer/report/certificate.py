"""The certificate's section: what is proved of the selection, in numbers, words and one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balancer.report.content import Guarantee
from balancer.report.style import CYCLE, SELECTED, Canvas, Picture
from balancer.report.vocabulary import MISSING, format_count, format_value

SHARES = ("100", "99", "95")
_FEWEST_POINTS = 2
"""A curve of one point is no curve."""


def read_guarantee(strategy: str, facts: Mapping[str, Any] | None) -> Guarantee | None:
    """Return what a manifest's footer has as its certificate; `None` where it has none.

    Args:
        strategy: as configured.
        facts: JSON of `balancer.selection.certificate.Certificate`.
    """
    if facts is None:
        return None
    return Guarantee(
        strategy=strategy,
        problem=str(facts["given"]),
        covering_radius={share: float(facts["covering_radius"][share]) for share in SHARES},
        radius=float(facts["radius"]),
        lower_bound=float(facts["lower_bound"]),
        ratio=facts["ratio"],
        factor=facts["factor"],
        num_included=int(facts["num_included"]),
        num_outliers=int(facts["num_outliers"]),
        curve=tuple((int(k), float(r), float(b)) for k, r, b in facts["budget_curve"]),
    )


def guarantee_facts(found: Guarantee) -> list[tuple[str, str]]:
    """Return the certificate's numbers with their names, as text."""
    facts = [("Strategy", found.strategy), ("Problem", found.problem)]
    facts += [
        (f"Radius at {share} %", format_value(found.covering_radius[share])) for share in SHARES
    ]
    if found.num_outliers:
        facts.append(("Radius, outliers left out", format_value(found.radius)))
    ratio = MISSING if found.ratio is None else format_value(found.ratio)
    factor = "none" if found.factor is None else format_value(found.factor)
    return [
        *facts,
        ("Lower bound", format_value(found.lower_bound)),
        ("Radius over lower bound", ratio),
        ("Factor guaranteed by the strategy", factor),
    ]


def explain(found: Guarantee) -> list[str]:
    """Return what the numbers mean, in sentences.

    >>> zero = {"100": 0.0, "99": 0.0, "95": 0.0}
    >>> explain(Guarantee("random", "of any", zero, 0.0, 0.0, 1.0, None))[1]
    'Every tile that counts is picked or equals a picked one: no selection covers better.'
    """
    lines = [
        "The covering radius is the greatest distance from a tile to the picked tile nearest to "
        "it: at 100 % of all tiles, at 99 % the farthest hundredth is not counted. Smaller is "
        "better: it bounds how far anything in the archive is from something picked."
    ]
    if found.radius == 0:
        lines.append(
            "Every tile that counts is picked or equals a picked one: no selection covers better."
        )
    elif found.ratio is None:
        lines.append("No lower bound above 0 is proved, so how good the radius is stays open.")
    else:
        lines.append(
            f"No selection of this size, by whatever method, can have a radius below "
            f"{format_value(found.lower_bound)}; this one's is at most "
            f"{format_value(found.ratio)} times the best possible."
        )
    if found.factor is not None:
        lines.append(
            f"The strategy guarantees a factor of {format_value(found.factor)} for every archive."
        )
    else:
        lines.append("The strategy itself guarantees no factor: the bound holds for this archive.")
    if found.num_included:
        lines.append(
            f"The bound is over selections that contain "
            f"{format_count(found.num_included, 'included tile')}."
        )
    if found.num_outliers:
        lines.append(
            f"The {format_count(found.num_outliers, 'farthest tile')} may be left out; radius and "
            f"bound are those of the others."
        )
    return lines


def budget_curve(found: Guarantee) -> Picture | None:
    """Draw radius and lower bound over the budget; `None` where the strategy has no curve."""
    if len(found.curve) < _FEWEST_POINTS:
        return None
    sizes = [size for size, _, _ in found.curve]
    radii = [radius for _, radius, _ in found.curve]
    bounds = [bound for _, _, bound in found.curve]
    canvas = Canvas("What a smaller budget would cover")
    canvas.axes.plot(sizes, radii, color=SELECTED, label="covering radius of the first picks")
    canvas.axes.plot(
        sizes, bounds, color=CYCLE[1], linestyle="--", label="no selection of so many is below"
    )
    canvas.axes.fill_between(sizes, bounds, radii, color=SELECTED, alpha=0.12, linewidth=0)
    canvas.axes.set_xscale("log")
    canvas.axes.xaxis.set_major_formatter("{x:,.0f}")
    canvas.axes.set_ylim(bottom=0)
    canvas.label("tiles picked", "distance in the embedding")
    canvas.legend_below(1)
    return canvas.picture(
        f"Line chart of the covering radius over the budget: {format_value(radii[0])} with "
        f"{format_count(sizes[0], 'tile')}, {format_value(radii[-1])} with {sizes[-1]:,}; the "
        f"lower bound falls from {format_value(bounds[0])} to {format_value(bounds[-1])}."
    )
