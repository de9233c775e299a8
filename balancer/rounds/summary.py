"""The short table at the end of a run: the archive before, a random set, the balanced set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summary_rows(measures: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return rows `(measure, before, random, balanced)` of a round's measures.

    The class-size deviation of the archive is scaled to the size of the selection, so that the
    three numbers compare.
    """
    sets = measures["sets"]
    before, balanced = sets["archive"], sets["selected"]
    random = sets.get("random")

    def row(name: str, key: str, form: str) -> tuple[str, ...]:
        return (name, *(form.format(s[key]) if s else "-" for s in (before, random, balanced)))

    rows: list[tuple[str, ...]] = [
        ("tiles", *(f"{s['num_tiles']:.0f}" if s else "-" for s in (before, random, balanced)))
    ]
    if before["classes"] is not None:
        scale = balanced["num_tiles"] / before["num_tiles"]
        classes = [s["classes"] if s else None for s in (before, random, balanced)]
        scales = (scale, 1.0, 1.0)
        rows += [
            (
                "class-size std (at this budget)",
                *(
                    f"{c['std'] * f:.1f}" if c else "-"
                    for c, f in zip(classes, scales, strict=True)
                ),
            ),
            *(
                (name, *(form.format(c[key]) if c else "-" for c in classes))
                for name, key, form in (
                    ("effective classes", "effective_classes", "{:.2f}"),
                    ("rare classes, share of the set", "rare_share", "{:.1%}"),
                    ("rare classes, tiles covered", "rare_coverage", "{:.1%}"),
                )
            ),
        ]
    rows += [
        row("effective clusters", "effective_clusters", "{:.1f}"),
        row("Gini of cluster sizes", "gini", "{:.3f}"),
        row("KL to uniform (nats)", "kl_to_uniform", "{:.3f}"),
    ]
    for share in ("100", "99", "95"):
        radii = [s.get("covering_radius") if s else None for s in (before, random, balanced)]
        rows.append(
            (f"covering radius, {share} %", *(f"{r[share]:.3f}" if r else "-" for r in radii))
        )
    return [(a, b, c, d) for a, b, c, d in rows]
