"""The result in one sentence, and the judgement of each measure against the random selection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from balancer.report.content import OutcomeColumn, ReportContent
from balancer.report.vocabulary import MEASURES, format_count, format_value

Verdict = Literal["better", "worse", "same", ""]

SAME_WITHIN = 0.005
"""Relative difference under which two values read the same with three digits."""

MAX_MEASURES = 5
"""Measures at the top of the page: with the number of picks they fill one line."""


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One tile at the top of the page."""

    label: str
    value: str
    context: str
    verdict: Verdict = ""


def column(content: ReportContent, role: str) -> OutcomeColumn | None:
    """Return the first outcome column of a role."""
    return next((c for c in content.outcome if c.role == role), None)


def judge(key: str, value: float | None, reference: float | None, spread: float = 0.0) -> Verdict:
    """Say whether `value` is better than `reference` in the direction of the measure.

    Values closer than one standard deviation of the reference count as the same.

    >>> judge("gini", 0.2, 0.5), judge("gini", 0.6, 0.5), judge("churn", 0.1, 0.2)
    ('better', 'worse', '')
    """
    better = MEASURES[key].better
    if value is None or reference is None or not better:
        return ""
    if not (math.isfinite(value) and math.isfinite(reference)):
        return ""
    if math.isclose(value, reference, rel_tol=SAME_WITHIN, abs_tol=max(1e-9, spread)):
        return "same"
    return "better" if (value < reference) == (better == "lower") else "worse"


def headline(content: ReportContent) -> str:
    """Return what was picked and what that did to the balance, in one sentence.

    The rarest thing the run can show comes first: rare classes when labels exist, then effective
    clusters, each from the archive to the selection. A selection that is worse than the random one
    in one of them is said to be so.
    """
    request = content.request
    if content.num_picked == 0:
        return (
            f"No round is finished yet: {format_count(request.num_tiles, 'tile')} cataloged, "
            f"{format_count(request.budget, 'tile')} to pick."
        )
    archive, selected = column(content, "archive"), column(content, "selected")
    compared = column(content, "compared")
    parts = [f"{content.num_picked:,} of {format_count(request.num_tiles, 'tile')} picked"]
    for key in _headline_keys(content):
        measure = MEASURES[key]
        now = selected.values.get(key) if selected else None
        if now is None or selected is None:
            continue
        before = archive.values.get(key) if archive and measure.of_archive else None
        text = f"{measure.label.lower()} "
        if before is not None:
            text += f"{format_value(before, measure.style)} \N{RIGHTWARDS ARROW} "
        text += format_value(now, measure.style)
        reference = compared.values.get(key) if compared else None
        if compared and reference is not None:
            verdict = judge(key, now, reference, compared.spread.get(key, 0.0))
            ending = {"worse": ", worse than that", "same": ", no different"}.get(verdict, "")
            shown = format_value(reference, measure.style)
            text += f" ({compared.name.lower()}: {shown}{ending})"
        parts.append(text)
    return "; ".join(parts) + "."


def key_figures(content: ReportContent) -> list[KeyFigure]:
    """Return the figures at the top of the page: the pick, then the measures that matter most."""
    request = content.request
    share = content.num_picked / request.num_tiles if request.num_tiles else math.nan
    figures = [
        KeyFigure(
            "Tiles picked",
            f"{content.num_picked:,}",
            f"of {request.num_tiles:,} ({format_value(share, 'percent')})",
        )
    ]
    archive, selected = column(content, "archive"), column(content, "selected")
    compared = column(content, "compared")
    if selected is None:
        return figures
    wanted = (
        "rare_class_coverage",
        "class_size_std",
        "effective_classes",
        "effective_clusters",
        "covering_radius_99",
        "gini",
        "kl_to_uniform",
    )
    for key in [key for key in wanted if key in selected.values][:MAX_MEASURES]:
        value = selected.values[key]
        measure = MEASURES[key]
        reference = compared.values.get(key) if compared else None
        context = []
        if archive and key in archive.values and measure.of_archive:
            context.append(f"archive {format_value(archive.values[key], measure.style)}")
        if compared and reference is not None:
            context.append(f"{compared.name.lower()} {format_value(reference, measure.style)}")
        figures.append(
            KeyFigure(
                measure.label,
                format_value(value, measure.style),
                # Lines break between the parts only.
                " \N{MIDDLE DOT} ".join(
                    part.replace(" ", "\N{NO-BREAK SPACE}") for part in context
                ),
                judge(key, value, reference, compared.spread.get(key, 0.0) if compared else 0.0),
            )
        )
    return figures


def _headline_keys(content: ReportContent) -> tuple[str, ...]:
    selected = column(content, "selected")
    if selected and "rare_class_coverage" in selected.values:
        return ("rare_class_coverage", "effective_classes")
    return ("effective_clusters", "gini")
