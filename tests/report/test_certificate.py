"""The certificate's section of the page."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest

from balancer.report.certificate import budget_curve, explain, guarantee_facts, read_guarantee
from balancer.report.content import Guarantee, ReportContent
from balancer.report.page import render_page
from balancer.selection import select_certified
from balancer.selection.constraints import Constraints

POINTS = np.random.default_rng(0).standard_normal((400, 5))


def guarantee(strategy: str = "farthest-point", included: int = 0) -> Guarantee:
    from balancer.config import SelectionConfig

    config = SelectionConfig.model_validate({"budget": 80, "strategy": strategy})
    limits = Constraints(include=np.arange(included).astype(np.str_))
    _, certify = select_certified(POINTS, config, constraints=limits)
    found = read_guarantee(strategy, certify().certificate.to_json())
    assert found is not None
    return found


def test_farthest_point_has_numbers_and_a_curve() -> None:
    found = guarantee()
    facts = dict(guarantee_facts(found))
    assert facts["Factor guaranteed by the strategy"].startswith("2")
    assert set(facts) >= {"Radius at 100 %", "Radius at 99 %", "Radius at 95 %", "Lower bound"}
    picture = budget_curve(found)
    assert picture is not None
    assert "with 1 tile," in picture.alt
    assert "with 80;" in picture.alt
    assert "<svg" in base64.b64decode(picture.uri.partition(",")[2]).decode()


def test_other_strategies_have_a_bound_and_no_curve() -> None:
    found = guarantee("random", included=3)
    assert budget_curve(found) is None
    assert dict(guarantee_facts(found))["Factor guaranteed by the strategy"] == "none"
    words = " ".join(explain(found))
    assert "guarantees no factor" in words
    assert "contain 3 included tiles" in words


@pytest.mark.parametrize(
    ("ratio", "radius", "text"),
    [(None, 1.0, "stays open"), (1.0, 0.0, "no selection covers better"), (2.0, 1.0, "at most 2")],
)
def test_words_for_every_ratio(ratio: float | None, radius: float, text: str) -> None:
    found = replace(guarantee("random"), ratio=ratio, radius=radius)
    assert text in " ".join(explain(found))


def test_the_page_shows_it(content: ReportContent) -> None:
    assert 'id="certificate"' not in render_page(content)
    page = render_page(replace(content, guarantee=guarantee()))
    assert '<section id="certificate">' in page
    assert 'href="#certificate"' in page
    assert "What a smaller budget" not in page.partition("<svg")[0]
    assert "Line chart of the covering radius over the budget" in page
