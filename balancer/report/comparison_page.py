"""Render a finished comparison as one self-contained HTML page, and its figures as files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from balancer.report.comparison_content import ComparisonContent, read_comparison
from balancer.report.comparison_figures import draw_comparison
from balancer.report.comparison_files import ComparisonFigure
from balancer.report.comparison_groups import group_tables
from balancer.report.templates import page_environment
from balancer.storage.filesystem import Store

PAGE, FIGURES = "report.html", "figures"
MISSING = "\N{EM DASH}"


def write_comparison_report(store: Store, folder: str) -> str:
    """Write `report.html` and `figures/*.png, *.svg` into a comparison's folder.

    Returns:
        URI of the page.

    Raises:
        DataError: the folder holds no finished comparison.
        StorageError: the store refuses or fails.
    """
    content = read_comparison(store, folder)
    figures = draw_comparison(content)
    root = store.absolute(folder)
    for figure in figures:
        store.write_bytes(store.join(root, FIGURES, f"{figure.slug}.png"), figure.png)
        store.write_bytes(store.join(root, FIGURES, f"{figure.slug}.svg"), figure.svg)
    uri = store.join(root, PAGE)
    store.write_bytes(uri, render_comparison(content, figures).encode())
    return uri


def render_comparison(content: ComparisonContent, figures: Sequence[ComparisonFigure]) -> str:
    """Return the page as HTML: no scripts, no links to the network, every text escaped."""
    facts = content.facts
    names = list(dict.fromkeys(figure.section for figure in figures))
    page = (
        page_environment()
        .get_template("comparison.html")
        .render(
            title=content.dataset,
            headline=headline(content),
            notices=notices(content),
            units=facts["units"],
            gap_headings=GAP_HEADINGS,
            gaps=_by_setting(facts["gaps"], _gap_row),
            match_headings=MATCH_HEADINGS,
            matches=_by_setting(facts["matches"], _match_row),
            claim_headings=CLAIM_HEADINGS,
            claims=_claims(content),
            overall=_overall(content),
            overall_headings=OVERALL_HEADINGS,
            groups=group_tables(content),
            sections=[
                {
                    "name": name,
                    "slug": f"section-{number}",
                    "figures": [figure for figure in figures if figure.section == name],
                }
                for number, name in enumerate(names)
            ],
            provenance=_provenance(facts),
            config_text=json.dumps(facts["config"], indent=1, sort_keys=True),
        )
    )
    return str(page)


GAP_HEADINGS = (
    "Encoder", "Method", "Gap closed", "Over random (points)", "Gap (points)", "Images",
    "Random (%)", "Balanced (%)",
)  # fmt: skip
MATCH_HEADINGS = ("Encoder", "Method", "Images", "Random images that match", "Ratio")
CLAIM_HEADINGS = ("Claim", "Encoder", "Statement", "Verdict")
OVERALL_HEADINGS = (
    "Arm", "Images", "Mean (%)", "Over the baseline (points)", "95 % interval", "p", "p, corrected",
)  # fmt: skip


def headline(content: ComparisonContent) -> list[str]:
    """Return a sentence per diverse arm: what it closes, at equal steps, with plain loss."""
    wanted = [
        row
        for row in content.facts["gaps"]
        if row["loss"] == "plain" and row["score"] == content.facts["main_score"]
    ]
    updates = "equal-updates" if any(r["updates"] == "equal-updates" for r in wanted) else None
    return [str(row["sentence"]) for row in wanted if updates is None or row["updates"] == updates]


def notices(content: ComparisonContent) -> list[str]:
    """Return what a reader must know before the numbers."""
    facts, found = content.facts, []
    if facts["synthetic"]:
        found.append(
            "SYNTHETIC: the images are rendered from label rows. These numbers show that the "
            "comparison works from end to end; they say nothing of real images."
        )
    if facts["split"]["kind"] == "80/20":
        found.append(
            "Thresholds were fitted on the images that are scored, as published (80/20): scores "
            "with thresholds are too good."
        )
    if facts["without_image"]:
        found.append(f"{facts['without_image']:,} labeled images were not found or not readable.")
    return found


def _gap_row(row: Mapping[str, Any]) -> list[str]:
    closed = "no gap told from nothing"
    if row["has_gap"]:
        closed = _span(row["closed"], row["closed_low"], row["closed_high"], 100, unit=" %")
    return [
        row["encoder"],
        row["method"],
        closed,
        _span(row["gain"], row["gain_low"], row["gain_high"], 100, sign=True),
        _span(row["gap"], row["gap_low"], row["gap_high"], 100, sign=True),
        f"{row['num_images']:,.0f}",
        _percent(row["random"]),
        _percent(row["balanced"]),
    ]


def _match_row(row: Mapping[str, Any]) -> list[str]:
    return [
        row["encoder"],
        row["method"],
        f"{row['num_images']:,.0f}",
        row["words"],
        MISSING if row["factor"] is None else f"{row['factor']:.2f} x",
    ]


def _claims(content: ComparisonContent) -> list[dict[str, Any]]:
    """Return the verdicts by score and steps: recall at equal steps first."""
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for row in content.facts["claims"]:
        cells = [row["claim"], row["encoder"], row["statement"], row["sentence"]]
        groups.setdefault((row["score"], row["updates"]), []).append(cells)
    ordered = sorted(groups, key=lambda key: (key[0] != "recall", key[1] != "equal-updates"))
    return [
        {
            "caption": f"{_words(score)}{' as published' if score == 'accuracy' else ''}, "
            f"{_words(updates)}",
            "rows": groups[score, updates],
        }
        for score, updates in ordered
    ]


def _by_setting(
    rows: Sequence[Mapping[str, Any]], cells: Callable[[Mapping[str, Any]], list[str]]
) -> list[dict[str, Any]]:
    """Return table rows by score, steps and loss: equal steps with the plain loss first."""
    groups: dict[tuple[str, str, str], list[list[str]]] = {}
    for row in rows:
        key = (row["score"], row["updates"], row["loss"])
        groups.setdefault(key, []).append(cells(row))
    ordered = sorted(groups, key=lambda key: (key[2] != "plain", key[1] != "equal-updates"))
    return [
        {"caption": f"{_words(a)}, {_words(b)}, {_words(c)} loss", "rows": groups[a, b, c]}
        for a, b, c in ordered
    ]


def _overall(content: ComparisonContent) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in content.facts["overall"]:
        key = (row["encoder"], row["score"], row["updates"], row["loss"], row["decision"])
        is_base = row["arm"] == "baseline"
        groups.setdefault(key, []).append(
            [
                row["arm"],
                f"{row['num_images']:,.0f}",
                _percent(row["mean"]),
                MISSING if is_base else f"{100 * row['difference']:+.1f}",
                MISSING if is_base else _interval(row["low"], row["high"], 100),
                _p(row["p"]),
                _p(row["p_corrected"]),
            ]
        )
    return [
        {
            "caption": f"{encoder}: {_words(score)}, {_words(updates)}, {_words(loss)} loss, "
            f"by {decision}",
            "rows": rows,
        }
        for (encoder, score, updates, loss, decision), rows in groups.items()
    ]


def _provenance(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = {name: sum(counts.values()) for name, counts in facts["parts"].items()}
    encoders = [f"{name} ({dim} features)" for name, dim in facts["encoders"].items()]
    pairs = [
        ("Data set", f"{facts['dataset']}, {facts['num_images']:,} images"),
        ("Classes", f"{len(facts['classes'])}; low-frequency: {', '.join(facts['low_classes'])}"),
        ("Labels per part", ", ".join(f"{name} {count:,}" for name, count in parts.items())),
        ("Encoders", ", ".join(encoders)),
        ("Pools, seeds", f"{facts['pools']}, {facts['seeds']}"),
        ("Images left out", f"{facts['unlabeled']:,}, without a label of these classes"),
        ("Version", str(facts["version"])),
        ("Results", "results.parquet: every score of every cell; summary.parquet: means"),
    ]
    if facts["long_tail"]:
        pairs.insert(1, ("Long tail", ", ".join(f"{k} {v}" for k, v in facts["long_tail"].items())))
    return pairs


def _words(name: str) -> str:
    return str(name).replace("_", " ").replace("equal-", "equal ")


def _percent(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.1f}"


def _interval(low: float | None, high: float | None, scale: float) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{scale * low:+.1f} to {scale * high:+.1f}"


def _span(
    value: float,
    low: float | None,
    high: float | None,
    scale: float,
    *,
    sign: bool = False,
    unit: str = "",
) -> str:
    style = "+.1f" if sign else ".0f"
    text = f"{scale * value:{style}}{unit}"
    if low is None or high is None:
        return f"{text} (interval unbounded)"
    if not (math.isfinite(low) and math.isfinite(high)):
        return text
    return f"{text} ({scale * low:{style}} to {scale * high:{style}})"


def _p(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
