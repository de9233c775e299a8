"""Weights that a strategy cannot give, and budgets that were not met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from balancer.selection import STRATEGIES
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.verification import Status, VerificationReport
from balancer.verification.manifest_checks import selection_digest
from balancer.verification.weight_checks import BY_CELLS
from tests.data.certified import Facts, rewrite
from tests.verification.tampering import made, verify


def message(report: VerificationReport, name: str) -> str:
    (found,) = [check for check in report.checks if check.name == name]
    assert found.status is Status.FAILED, report
    return found.message


def multiply(path: Path, factor: float) -> None:
    """Multiply all weights, and let the digest agree."""
    table = read_table(Store(), str(path))
    weights = pc.multiply(table["weight"], factor)
    changed = table.set_column(table.column_names.index("weight"), "weight", weights)
    digest = selection_digest(changed)
    rewrite(path, lambda facts: facts.update(selection_fingerprint=digest), lambda _: changed)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("factor", [1.5, 0.5])
def test_other_weights_are_found(tmp_path: Path, strategy: str, factor: float) -> None:
    path = made(tmp_path, strategy=strategy)
    assert verify(path).verified
    multiply(path, factor)
    report = verify(path)
    if strategy == "inverse-density" and factor > 1:
        assert report.verified  # the sum of these is right on average only
        return
    of_cells = ["cells"] if strategy in BY_CELLS else []
    assert report.named(Status.FAILED) == ["weight sums", *of_cells], report


@pytest.mark.parametrize(
    "selection",
    [
        {"strategy": "per-cluster", "quotas": {"repeats": 3, "alpha": 0.5}, "budget": 290},
        {"strategy": "per-cluster", "quotas": {"cap": 2}, "budget": 200},
        {"strategy": "hybrid", "quotas": {"repeats": 4}, "budget": 300},
        {"strategy": "hybrid", "global_share": 1.0},
        {"strategy": "hybrid-medoid", "budget": 0.5},
        {"strategy": "hierarchical", "budget": 0.005},
        {"strategy": "random", "budget": 300},
    ],
)
def test_unusual_selections_hold(tmp_path: Path, selection: dict[str, Any]) -> None:
    report = verify(made(tmp_path, **selection))
    assert report.verified, report
    assert {"weight sums", "budget"} <= set(report.named(Status.PASSED))


def test_a_shortfall_must_be_stated(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="per-cluster", quotas={"cap": 2}, budget=200)

    def forget(facts: Facts) -> None:
        facts["quotas"] = [line for line in facts["quotas"] if not line.startswith("budget")]

    rewrite(path, forget)
    assert "must be 200 picks, or the footer's quotas must say what is missing; there are" in (
        message(verify(path), "budget")
    )


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (31, "must be 31 picks, or the footer's quotas must say what is missing; there are 30"),
        (29, "must be 29 picks"),
        (0.2, "must be 60 picks"),
        ("x", "config.selection.budget must be a number above 0; got 'x'"),
        (0, "must be a number above 0; got 0"),
        (True, "must be a number above 0; got True"),
    ],
)
def test_another_budget(tmp_path: Path, budget: object, problem: str) -> None:
    path = made(tmp_path, strategy="farthest-point")
    rewrite(path, lambda facts: facts["config"]["selection"].update(budget=budget))
    assert problem in message(verify(path), "budget")
