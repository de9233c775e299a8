"""The tables of the health study, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balancer.comparison.health_study import (
    BOOTSTRAP,
    LEVEL,
    Observation,
    Rule,
    check_rules,
    correlations,
)


def study_tables(
    rows: Sequence[Observation],
    measures: Sequence[str],
    *,
    fallback: str,
    seed: int,
    num_draws: int = BOOTSTRAP,
) -> list[str]:
    """Return Markdown: the means of each encoder, the correlations, and the rules on left-out sets.

    Args:
        rows: all observations; each must have the same lifts, named `KIND of STRATEGY`.
        measures: names.
        fallback: strategy that a rule falls back to.
        seed: of the bootstrap.
        num_draws: of the bootstrap.
    """
    lifts = sorted(rows[0].lifts)
    lines = ["| set | encoder | pools | " + " | ".join([*measures, *lifts]) + " |"]
    lines.append("|---" * (3 + len(measures) + len(lifts)) + "|")
    for cell in sorted({row.cell for row in rows}):
        mine = [row for row in rows if row.cell == cell]
        cells = [_mean([r.measures[m] for r in mine if m in r.measures]) for m in measures]
        cells += [_mean([r.lifts[lift] for r in mine]) for lift in lifts]
        lines.append(f"| {cell[0]} | {cell[1]} | {len(mine)} | " + " | ".join(cells) + " |")
    share = f"{LEVEL:.0%}"
    lines += ["", f"| lift | measure | n | rho ({share}) | rho within sets ({share}) |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {c.lift} | {c.measure} | {c.count} | {c.overall:+.2f} ({_range(c.overall_range)}) "
        f"| {c.within:+.2f} ({_range(c.within_range)}) |"
        for c in correlations(rows, measures, lifts, seed=seed, num_draws=num_draws)
    ]
    if len({row.data_set for row in rows}) < 2:
        return [*lines, "", "Rules are checked on left-out sets; there is one set only."]
    for lift in lifts:
        kind, _, strategy = lift.partition(" of ")
        if strategy == fallback:
            continue
        lines += ["", f"| {lift}: rule | chosen by it | never fall back | always | best |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| {_describe(c.rules)} | {c.chosen:+.3f} | {c.diverse:+.3f} | {c.fallback:+.3f} "
            f"| {c.best:+.3f} |"
            for c in check_rules(rows, measures, diverse=lift, fallback=f"{kind} of {fallback}")
        ]
    return lines


def _describe(rules: Sequence[Rule]) -> str:
    return f"{rules[0].measure}: " + ", ".join(
        f"{'>=' if rule.sign > 0 else '<='} {rule.threshold:.3g}" for rule in rules
    )


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3g}" if values else "-"
