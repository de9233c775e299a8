"""A packing without a witness proves nothing, so it must not claim a radius."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.storage.filesystem import Store
from balancer.verification import Status, verify_manifest
from tests.data.certified import Facts, rewrite, write_certified


def without_witness(radius: float) -> Callable[[Facts], None]:
    """Return a change of the footer: no rows bound the optimum any more."""

    def forge(facts: Facts) -> None:
        found = facts["certificate"]
        found |= {"lower_bound": 0.0, "ratio": None}
        found["packing"] = {
            "radius": radius, "num_points": 0, "witness": "none", "farthest_tile_id": None,
        }  # fmt: skip

    return forge


@pytest.mark.parametrize(
    ("form", "radius", "status"),
    [
        ("random", 0.5, Status.FAILED),
        ("random", 0.0, Status.FAILED),
        ("farthest-point", 0.0, Status.FAILED),
        ("coreset", 0.5, Status.FAILED),
        ("coreset", 0.0, Status.SKIPPED),  # of no strategy that is known
    ],
)
def test_no_witness(tmp_path: Path, form: str, radius: float, status: Status) -> None:
    manifest, _ = write_certified(tmp_path, form)
    rewrite(manifest, without_witness(radius))
    report = verify_manifest(Store(), str(manifest))
    assert "packing" in report.named(status), report
    assert report.verified == (status is Status.SKIPPED)


def test_farthest_point_cannot_bound_the_optimum_by_less(tmp_path: Path) -> None:
    manifest, _ = write_certified(tmp_path, "farthest-point")

    def forge(facts: Facts) -> None:
        facts["certificate"] |= {"lower_bound": 0.0, "ratio": None}
        facts["certificate"]["packing"]["radius"] = 0.0

    rewrite(manifest, forge)
    report = verify_manifest(Store(), str(manifest))
    assert "lower bound and ratio" in report.named(Status.FAILED), report


@pytest.mark.parametrize("budget", [3, 6])
@pytest.mark.parametrize("strategy", ["farthest-point", "random", "per-cluster"])
def test_identical_rows_and_all_rows_need_none(tmp_path: Path, strategy: str, budget: int) -> None:
    np.save(tmp_path / "rows.npy", np.ones((6, 3), np.float32))
    out = tmp_path / "manifest.parquet"
    chosen = {"budget": budget, "strategy": strategy}
    select_embeddings(EmbeddingsRequest(str(tmp_path / "rows.npy"), str(out), chosen))
    report = verify_manifest(Store(), str(out))
    assert report.verified, report
    rewrite(out, without_witness(0.0))
    rewrite(out, lambda facts: facts["certificate"].update(ratio=1.0))
    report = verify_manifest(Store(), str(out))
    assert report.verified, report


def test_no_witness_where_the_optimum_is_zero(tmp_path: Path) -> None:
    manifest, embeddings = write_certified(tmp_path, "everything")
    rewrite(manifest, lambda facts: facts["certificate"]["packing"].update(radius=0.5))
    report = verify_manifest(Store(), str(manifest), embeddings=str(embeddings))
    assert "packing" in report.named(Status.FAILED), report
