"""Render a `ReportContent` as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balancer.report import figures, round_figures
from balancer.report.certificate import budget_curve, explain, guarantee_facts
from balancer.report.content import OutcomeColumn, ReportContent
from balancer.report.headline import Verdict, column, headline, judge, key_figures
from balancer.report.style import Picture
from balancer.report.templates import page_environment
from balancer.report.vocabulary import (
    MEASURES,
    MISSING,
    Measure,
    format_bytes,
    format_count,
    format_spread,
    format_value,
)

OPEN_SHEETS = 12
"""Contact sheets shown at once; the rest open on a click."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One measure of the result table: a cell per column, then the judgement of the selection."""

    measure: Measure
    cells: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One measure of the table of rounds: a cell per round."""

    measure: Measure
    cells: tuple[str, ...]


def render_page(content: ReportContent) -> str:
    """Return the page as HTML: no scripts, no links to the network, everything inside.

    Every text of `content` is escaped, and the page's own content policy forbids scripts and
    connections. The same content gives the same text.

    Cost: about 0.2 s per plot; the size is that of the thumbnails times 4/3 plus about 1 MB.
    """
    environment = page_environment()
    environment.filters.update(
        value=format_value,
        size=format_bytes,
        jpeg=_jpeg_uri,
        share=lambda part, whole: format_value(part / whole if whole else None, "percent"),
    )
    template = environment.get_template("page.html")
    return template.render(
        content=content,
        headline=headline(content),
        key_figures=key_figures(content),
        outcome=_outcome_rows(content),
        compared=column(content, "compared"),
        balance_pictures=_balance_pictures(content),
        embedding_pictures=_embedding_pictures(content),
        round_pictures=_round_pictures(content),
        measure_pictures=round_figures.measure_curves(content.rounds),
        map_picture=figures.coordinates_map(content.coordinates) if content.coordinates else None,
        round_rows=_round_rows(content, health=False),
        health_rows=_round_rows(content, health=True),
        config_text=json.dumps(content.provenance.config, indent=2, sort_keys=True),
        request_facts=_request_facts(content),
        open_sheets=OPEN_SHEETS,
        totals=_totals(content),
        guarantee_facts=guarantee_facts(content.guarantee) if content.guarantee else None,
        guarantee_words=explain(content.guarantee) if content.guarantee else None,
        budget_picture=budget_curve(content.guarantee) if content.guarantee else None,
    )


def _outcome_rows(content: ReportContent) -> list[TableRow]:
    selected, compared = column(content, "selected"), column(content, "compared")
    rows = []
    for key, measure in MEASURES.items():
        if measure.part in {"health", "change"}:
            continue
        if not any(key in c.values for c in content.outcome):
            continue
        verdict: Verdict = ""
        if selected and compared:
            verdict = judge(
                key,
                selected.values.get(key),
                compared.values.get(key),
                compared.spread.get(key, 0.0),
            )
        cells = tuple(_cell(c, key, measure) for c in content.outcome)
        rows.append(TableRow(measure, cells, verdict))
    return rows


def _cell(outcome: OutcomeColumn, key: str, measure: Measure) -> str:
    text = format_value(outcome.values.get(key), measure.style)
    spread = outcome.spread.get(key)
    if spread is not None and text != MISSING:
        text += f" \N{PLUS-MINUS SIGN} {format_spread(spread, measure.style)}"
    return text


def _round_rows(content: ReportContent, *, health: bool) -> list[RoundRow]:
    return [
        RoundRow(measure, tuple(format_value(r.values.get(key), measure.style) for r in rounds))
        for rounds in (content.rounds,)
        for key, measure in MEASURES.items()
        if (measure.part == "health") == health and any(key in r.values for r in rounds)
    ]


def _balance_pictures(content: ReportContent) -> list[Picture]:
    pictures = []
    if content.class_sizes and len(content.class_sizes.names):
        pictures.append(figures.class_sizes(content.class_sizes))
    if content.cluster_sizes and len(content.cluster_sizes.names):
        pictures.append(figures.cluster_sizes(content.cluster_sizes))
    return pictures


def _embedding_pictures(content: ReportContent) -> list[Picture]:
    if content.projection is None or len(content.projection.points) == 0:
        return []
    return [
        figures.projection_picks(content.projection),
        figures.projection_groups(content.projection),
    ]


def _round_pictures(content: ReportContent) -> list[Picture]:
    drawn = (
        round_figures.loss_curves(content.rounds, content.loss_name),
        round_figures.covering_radii(content.rounds),
    )
    return [picture for picture in drawn if picture is not None]


def _request_facts(content: ReportContent) -> list[tuple[str, str]]:
    request = content.request
    done = len(content.rounds)
    facts = [
        ("Archive", request.archive_uri),
        (
            "Tiles",
            f"{request.num_tiles:,} in {format_count(request.num_shards, 'shard')}, "
            f"{format_bytes(request.num_bytes)}",
        ),
        ("Budget", format_count(request.budget, "tile")),
        ("Strategy", request.strategy),
        ("Encoder", request.encoder),
        ("Rounds", f"{done} done of at most {request.rounds}"),
        ("Seed", str(request.seed)),
    ]
    if content.stopped:
        facts.append(("Ended", content.stopped))
    return facts


def _totals(content: ReportContent) -> Mapping[str, Any]:
    """Return the sums that shares in the contact sheets refer to."""
    sizes = content.cluster_sizes
    return {
        "archive": int(sizes.archive.sum()) if sizes else content.request.num_tiles,
        "picked": int(sizes.selected.sum()) if sizes else content.num_picked,
    }


def _jpeg_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
