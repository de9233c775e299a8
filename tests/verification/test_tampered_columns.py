"""Distances, clusters, reasons and claims that nothing measured; what is gone is never passed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balancer.selection import STRATEGIES
from balancer.verification import Status
from balancer.verification.certificate_checks import curve_sizes
from tests.data.certified import Facts, rewrite
from tests.verification.tampering import made, outcomes, set_columns, verify

COMPOSABLE = ("composable", "composable-epsilon")
CLUSTERED = ("per-cluster", "hierarchical", "hybrid", "hybrid-medoid")


def at(rank: int, value: object) -> Callable[[list[Any]], list[Any]]:
    return lambda column: [*column[:rank], value, *column[rank + 1 :]]


def everywhere(value: object) -> Callable[[list[Any]], list[Any]]:
    return lambda column: [value] * len(column)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_first_distance(tmp_path: Path, strategy: str) -> None:
    """The first pick was measured from none, whatever the strategy."""
    path = made(tmp_path, strategy=strategy)
    assert outcomes(verify(path))["absent distances"][0] is Status.PASSED
    set_columns(path, distance=at(0, 0.5))
    report = verify(path)
    assert report.named(Status.FAILED) == ["absent distances"]
    assert "was measured from no pick and must have none" in outcomes(report)["absent distances"][1]


@pytest.mark.parametrize("strategy", ["farthest-point", "per-cluster", "random", "composable"])
def test_a_distance_of_an_included_tile(tmp_path: Path, strategy: str) -> None:
    (tmp_path / "list.txt").write_text("7\n11\n")
    path = made(tmp_path, strategy=strategy, include=str(tmp_path / "list.txt"))
    assert verify(path).verified
    set_columns(path, distance=at(1, 0.5))
    assert "rank 1 (include)" in outcomes(verify(path))["absent distances"][1]


def test_a_distance_of_a_cluster_s_first_pick(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="per-cluster")
    set_columns(path, distance=at(2, 0.5))
    assert outcomes(verify(path))["absent distances"][0] is Status.FAILED


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_clusters_of_a_selection_without(tmp_path: Path, strategy: str) -> None:
    path = made(tmp_path, strategy=strategy)
    status, said = outcomes(verify(path))["cluster numbers"]
    if strategy in CLUSTERED:
        assert (status, said[:11]) == (Status.SKIPPED, "not checked")
        return
    assert status is Status.PASSED
    set_columns(path, cluster=everywhere(7))
    assert verify(path).named(Status.FAILED) == ["cluster numbers"]
    rewrite(path, lambda facts: facts.update(clustering_fingerprint="x"))
    assert outcomes(verify(path))["cluster numbers"][0] is Status.SKIPPED


@pytest.mark.parametrize("strategy", COMPOSABLE)
def test_distances_of_picks_from_coresets(tmp_path: Path, strategy: str) -> None:
    path = made(tmp_path, strategy=strategy)
    found = outcomes(verify(path))
    assert found["distances"] == (Status.PASSED, "29 recomputed")
    assert found["pick order"][1].startswith("not checked: ")
    set_columns(path, distance=lambda column: [None, *[0.5] * (len(column) - 1)])
    assert verify(path).named(Status.FAILED) == ["distances"]


def test_picks_from_coresets_in_another_order(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="composable")

    def swap(column: list[Any]) -> list[Any]:
        return [column[0], column[20], *column[2:20], column[1], *column[21:]]

    set_columns(path, tile_id=swap, distance=swap)
    assert outcomes(verify(path))["pick order"][0] is Status.FAILED


@pytest.mark.parametrize("strategy", COMPOSABLE)
@pytest.mark.parametrize("factor", [2.0, 3.9])
def test_a_factor_that_the_coresets_do_not_give(
    tmp_path: Path, strategy: str, factor: float
) -> None:
    path = made(tmp_path, strategy=strategy, epsilon=0.3)
    assert outcomes(verify(path))["coresets"][0] is Status.PASSED
    rewrite(path, lambda facts: facts["coreset"].update(epsilon_reached=0.25))
    rewrite(path, lambda facts: facts["certificate"].update(factor=2.25))
    assert outcomes(verify(path))["coresets"][0] is Status.PASSED  # not to be known from here
    rewrite(path, lambda facts: facts["certificate"].update(factor=factor))
    assert "the factor must be 2 + the epsilon 0.25" in outcomes(verify(path))["coresets"][1]
    rewrite(path, lambda facts: facts.pop("coreset"))
    status, said = outcomes(verify(path))["coresets"]
    assert status is Status.SKIPPED
    assert said.startswith("not checked: ")


def test_coresets_for_another_epsilon(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="composable-epsilon", epsilon=0.3)

    def loosen(facts: Facts) -> None:
        facts["coreset"]["epsilon_reached"] = 0.9
        facts["certificate"]["factor"] = 2.9

    rewrite(path, loosen)
    assert "must be at most 0.3" in outcomes(verify(path))["coresets"][1]
    rewrite(path, lambda facts: facts["coreset"].update(epsilon_wanted=1.0))
    assert "epsilon must be 0.3, as configured" in outcomes(verify(path))["coresets"][1]


@pytest.mark.parametrize("kept", [slice(-1, None), slice(0, 29, 2)])
def test_a_thinned_budget_curve(tmp_path: Path, kept: slice) -> None:
    path = made(tmp_path, strategy="farthest-point")

    def thin(facts: Facts) -> None:
        curve = facts["certificate"]["budget_curve"]
        facts["certificate"]["budget_curve"] = curve[kept] + (curve[-1:] if kept.stop else [])

    rewrite(path, thin)
    report = verify(path)
    assert report.named(Status.FAILED) == ["picked distances"]
    assert "must have the 30 sizes from 1 to 30" in outcomes(report)["picked distances"][1]


def test_sizes_of_a_curve_by_hand() -> None:
    assert curve_sizes(60, 150) == [60, 61, 62, 63, 64, 70, 76, 83, 91, 99, 108, 117, 128, 140, 150]
    assert curve_sizes(3, 3) == [3]


@pytest.mark.parametrize(
    ("keys", "check"),
    [(("config", "selection", "budget"), "budget"), (("embeddings_fingerprint",), "embeddings")],
)
def test_what_was_deleted_is_not_checked(tmp_path: Path, keys: tuple[str, ...], check: str) -> None:
    path = made(tmp_path, strategy="farthest-point")

    def delete(facts: Facts) -> None:
        for key in keys[:-1]:
            facts = facts[key]
        del facts[keys[-1]]

    rewrite(path, delete)
    status, said = outcomes(verify(path))[check]
    assert status is Status.SKIPPED
    assert said.startswith("not checked: ")


def test_reasons_that_no_rule_gives(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="farthest-point")
    set_columns(path, reason=everywhere("farthest-point:x"))
    report = verify(path)
    assert "strategy" in report.named(Status.FAILED)
    assert (
        "reasons of farthest-point must be farthest-point; one is"
        in (outcomes(report)["strategy"][1])
    )


@pytest.mark.parametrize("strategy", ["per-cluster", "hybrid"])
def test_unequal_weights_in_a_cluster(tmp_path: Path, strategy: str) -> None:
    path = made(tmp_path, strategy=strategy, budget=60)

    def shift(weights: list[float]) -> list[float]:
        weights[0] -= 0.25
        return weights

    set_columns(path, weight=shift)
    assert "picks of one cluster must weigh the same" in outcomes(verify(path))["weight sums"][1]


def test_weights_by_density_are_not_checked(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="inverse-density")
    status, said = outcomes(verify(path))["weight sums"]
    assert status is Status.SKIPPED
    assert "not checked beyond that" in said
