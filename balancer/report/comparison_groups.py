"""Recall of every arm in every group of the metadata columns that a comparison was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from balancer.report.comparison_content import ComparisonContent

SHOWN_GROUPS = 12
"""Groups of a column that the page shows, worst first; summary.parquet has all."""
SCORE = "macro_recall"


@dataclass(frozen=True, slots=True)
class GroupTable:
    """One table of the page: arms by groups, cells are means in percent."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def group_tables(content: ComparisonContent) -> list[GroupTable]:
    """Return a table per column, encoder, steps and loss: equal steps with plain loss first.

    Groups are in the order of the baseline's recall, the worst first; ties by name.
    """
    tables = []
    for column in content.facts["config"]["groups"]:
        found: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
        chosen = {"scope": f"group:{column}", "score": SCORE, "decision": content.decision}
        for row in content.select(**chosen):
            arms = found.setdefault((row.encoder, row.updates, row.loss), {})
            arms.setdefault(row.arm, {})[row.name] = row.value.mean
        ordered = sorted(found, key=lambda key: (key[2] != "plain", key[1] != "equal-updates"))
        tables += [_table(column, key, found[key]) for key in ordered]
    return tables


def _table(column: str, key: tuple[str, str, str], arms: dict[str, dict[str, float]]) -> GroupTable:
    encoder, updates, loss = key
    baseline = arms["baseline"]
    groups = sorted(baseline, key=lambda name: (baseline[name], name))
    shown = groups[:SHOWN_GROUPS]
    which = f"the {len(shown)} worst of {len(groups)} groups" if len(groups) > len(shown) else ""
    caption = f"{column}: {encoder}, {updates.replace('-', ' ')}, {loss} loss"
    return GroupTable(
        f"{caption}, {which}" if which else caption,
        ("Arm", *(f"{name} (%)" for name in shown)),
        tuple(
            (arm, *(_percent(means.get(name, math.nan)) for name in shown))
            for arm, means in arms.items()
        ),
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "\N{EM DASH}"
