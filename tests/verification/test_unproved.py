"""A packing without a witness proves nothing, so it must not claim a radius."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.storage.filesystem import Store
from balancer.verification import Status, verify_manifest
from tests.data.certified import Facts, rewrite, write_certified


@pytest.mark.parametrize(("radius", "status"), [(0.5, Status.FAILED), (0.0, Status.SKIPPED)])
def test_no_witness(tmp_path: Path, radius: float, status: Status) -> None:
    manifest, embeddings = write_certified(tmp_path, "random")

    def forge(facts: Facts) -> None:
        found = facts["certificate"]
        found |= {"lower_bound": 0.0, "ratio": None}
        found["packing"] = {
            "radius": radius, "num_points": 0, "witness": "none", "farthest_tile_id": None,
        }  # fmt: skip

    rewrite(manifest, forge)
    report = verify_manifest(Store(), str(manifest), embeddings=str(embeddings))
    assert "packing" in report.named(status), report
    assert report.verified == (status is Status.SKIPPED)


def test_no_witness_where_the_optimum_is_zero(tmp_path: Path) -> None:
    manifest, embeddings = write_certified(tmp_path, "everything")
    rewrite(manifest, lambda facts: facts["certificate"]["packing"].update(radius=0.5))
    report = verify_manifest(Store(), str(manifest), embeddings=str(embeddings))
    assert "packing" in report.named(Status.FAILED), report
