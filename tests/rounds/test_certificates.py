"""A run's manifests carry certificates, and the independent verifier accepts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.config import Strategy
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.selection import STRATEGIES
from balancer.storage.filesystem import Store
from balancer.storage.manifests import read_manifest
from balancer.verification import verify_manifest
from tests.data.certified import made_embeddings
from tests.data.tiny_runs import finish, frozen, tile_folder


@pytest.mark.ray
@pytest.mark.parametrize("strategy", ["per-cluster", "farthest-point", "composable"])
def test_a_run(ray_cluster: str, tmp_path: Path, strategy: Strategy) -> None:
    assert ray_cluster
    config = frozen(
        tile_folder(tmp_path / "tiles"),
        tmp_path / "run",
        selection={"strategy": strategy},
        rounds=1,
    )
    finished = finish(config)
    _, facts = read_manifest(Store(), str(finished.folder / "manifest.parquet"))
    assert facts["certificate"]["num_rows"] > 4
    assert set(facts["certificate"]["covering_radius"]) == {"100", "99", "95"}
    report = verify_manifest(Store(), finished.result.manifest_uri)
    assert report.verified, report
    assert finish(config).manifest == finished.manifest  # a second run redoes nothing


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_embeddings_only(tmp_path: Path, strategy: Strategy) -> None:
    _, points = made_embeddings()
    np.save(tmp_path / "points.npy", points)
    out = tmp_path / "manifest.parquet"
    select_embeddings(
        EmbeddingsRequest(
            str(tmp_path / "points.npy"), str(out), {"budget": 30, "strategy": strategy}
        )
    )
    report = verify_manifest(Store(), str(out))
    assert report.verified, report
