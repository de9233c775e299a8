from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from balancer.report.content import (
    Audit,
    ClusterSheet,
    GroupSizes,
    Projection,
    Provenance,
    QuarantinedTile,
    ReportContent,
    RoundRecord,
    Thumbnail,
)
from balancer.report.page import render_page

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class PageParser(html.parser.HTMLParser):
    """Collects tags, attributes and ids; checks that tags are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def values(self, tag: str, attribute: str) -> list[str]:
        found = (attributes.get(attribute) for name, attributes in self.tags if name == tag)
        return [value for value in found if value is not None]


def parse(page: str) -> PageParser:
    parser = PageParser()
    parser.feed(page)
    assert parser.open == []
    return parser


def bare(content: ReportContent) -> ReportContent:
    """Leave only what a run without labels, coordinates and finished rounds has."""
    return ReportContent(
        title=content.title,
        request=content.request,
        num_picked=0,
        audit=Audit(10, 10, 0, 0),
        provenance=Provenance(config={}),
    )


def test_page_needs_no_network(content: ReportContent) -> None:
    page = render_page(content)
    assert not re.search(r"https?://", page)
    assert "@import" not in page
    assert not re.search(r"url\(", page)
    parser = parse(page)
    assert {tag for tag, _ in parser.tags}.isdisjoint({"script", "link", "iframe", "object"})
    assert all(uri.startswith("data:image/") for uri in parser.values("img", "src"))
    assert all(target.startswith("#") for target in parser.values("a", "href"))


def test_links_lead_to_sections_and_every_image_has_a_text(content: ReportContent) -> None:
    parser = parse(render_page(content))
    ids = parser.values("section", "id")
    assert ids == [
        "result",
        "sheets",
        "balance",
        "space",
        "rounds",
        "map",
        "health",
        "audit",
        "provenance",
    ]
    assert {target.removeprefix("#") for target in parser.values("a", "href")} == set(ids)
    images = [attributes for tag, attributes in parser.tags if tag == "img"]
    assert all(attributes.get("alt") for attributes in images)
    assert "picked/0-0.jpg (forest)" in parser.values("img", "title")


def test_data_are_escaped_everywhere(content: ReportContent) -> None:
    tile = Thumbnail(ATTACK, b"", ATTACK)
    assert content.projection is not None
    assert content.class_sizes is not None
    names = (ATTACK, "$x$ _{y}", "\x07\u68ee\u6797")
    hostile = replace(
        content,
        title=ATTACK,
        stopped=ATTACK,
        created=ATTACK,
        loss_name=ATTACK,
        warnings=(ATTACK,),
        request=replace(content.request, archive_uri=ATTACK, encoder=ATTACK, strategy=ATTACK),
        outcome=tuple(replace(column, name=ATTACK) for column in content.outcome),
        clusters=(ClusterSheet(0, 2, 1, (tile,), (tile,), ATTACK),),
        class_sizes=replace(content.class_sizes, names=names),
        projection=replace(content.projection, group_names=names),
        audit=Audit(3, 2, 0, 1, 0, {ATTACK: 1}, (QuarantinedTile(ATTACK, ATTACK, ATTACK, ATTACK),)),
        provenance=Provenance(
            {"key": ATTACK}, {ATTACK: ATTACK}, {ATTACK: ATTACK}, {ATTACK: ATTACK}, ATTACK
        ),
    )
    page = render_page(hostile)
    parser = parse(page)
    assert "<script" not in page
    assert all("onerror" not in attributes for _, attributes in parser.tags)
    assert f"{ATTACK} ({ATTACK})" in parser.values("img", "title")


def test_same_content_gives_the_same_bytes(content: ReportContent) -> None:
    assert render_page(content) == render_page(content)


def test_page_stays_under_ten_megabytes(
    content: ReportContent, make_sheets: Callable[[int, int], tuple[ClusterSheet, ...]]
) -> None:
    rng = np.random.default_rng(0)
    many = 5000
    full = replace(
        content,
        clusters=make_sheets(24, 24),
        projection=Projection(
            rng.normal(size=(many, 2)),
            rng.random(many) < 0.1,
            rng.integers(0, 24, many),
            tuple(map(str, range(24))),
            "cluster",
            (0.3, 0.1),
            many,
        ),
    )
    assert len(render_page(full).encode()) < 10_000_000


def test_page_without_labels_coordinates_and_second_round(content: ReportContent) -> None:
    page = render_page(
        replace(content, class_sizes=None, coordinates=None, rounds=content.rounds[:1], warnings=())
    )
    parser = parse(page)
    assert "map" not in parser.values("section", "id")
    assert "#map" not in parser.values("a", "href")
    assert "Class shares" not in page
    assert "No warnings" in page
    assert "1 done of at most 3" in page


def test_page_of_a_run_without_a_finished_round(content: ReportContent) -> None:
    page = render_page(bare(content))
    assert "No round is finished yet: 4,500 tiles cataloged, 600 tiles to pick." in page
    assert parse(page).values("section", "id") == ["result", "health", "audit", "provenance"]


def test_page_with_rounds_that_measured_little(content: ReportContent) -> None:
    page = render_page(
        replace(
            content,
            rounds=(RoundRecord(0, 10, (), {"gini": float("nan"), "churn": 0.5}),),
            cluster_sizes=GroupSizes((), np.zeros(0, np.int64), np.zeros(0, np.int64)),
        )
    )
    parse(page)
    assert "Training loss" not in page


def test_audit_that_does_not_add_up_is_said(content: ReportContent) -> None:
    page = render_page(replace(content, audit=Audit(11, 10, 0, 0)))
    assert "does not add up" in page
    assert "adds up: nothing is lost" in render_page(content)


def test_configuration_is_shown_whole(content: ReportContent) -> None:
    page = render_page(content)
    text = json.dumps(content.provenance.config, indent=2, sort_keys=True)
    assert text.replace('"', "&#34;") in page


@pytest.mark.parametrize("shown", [1, 12, 13])
def test_small_clusters_fold_away(
    content: ReportContent, make_sheets: Callable[[int, int], tuple[ClusterSheet, ...]], shown: int
) -> None:
    page = render_page(replace(content, clusters=make_sheets(shown, 2), num_clusters=shown))
    assert page.count('<article class="sheet">') == shown
    assert ("Show 1 smaller cluster<" in page) == (shown == 13)
