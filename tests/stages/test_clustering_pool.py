"""Clustering on Ray workers of which one dies on the way gives what one array gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from balancer.clustering import assignment
from balancer.clustering.hierarchy import fit_hierarchy
from balancer.clustering.kmeans import ArrayRows, fit
from balancer.clustering.lloyd import make_scale
from balancer.config import ClusteringConfig
from balancer.selection.arrays import prepare
from balancer.stages.pool import open_pool
from balancer.stages.pool_messages import Compute
from balancer.stages.pool_worker import PoolWorker
from balancer.storage.filesystem import Store
from tests.stages.test_pool import IDS, POINTS, write_shards

CONFIGS = {
    "k-means||, split": ClusteringConfig(init="k-means||", max_skew=1.5, iterations=4),
    "a sample, spherical": ClusteringConfig(fit_rows=100, spherical=True, iterations=4),
    "levels": ClusteringConfig(levels=(12, 3), resamplings=1, resample_rows=4, iterations=4),
}


@pytest.mark.ray
@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_worker_changes_nothing(
    ray_cluster: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_cluster
    config = CONFIGS[name]
    fitter = fit if config.levels is None else fit_hierarchy
    points, ids = prepare(POINTS, IDS, normalize=True)
    expected = fitter(ArrayRows(points, ids), 12, config=config, seed=4)
    trips = 0
    with open_pool(Store(), write_shards(tmp_path, 3), normalize=True, num_workers=2) as pool:
        ask = pool._ask

        def ask_and_kill(method: str, *arguments: object) -> list[Any]:
            nonlocal trips
            trips += 1
            if trips == 2:
                ray.kill(pool._workers[1], no_restart=False)
            return ask(method, *arguments)

        monkeypatch.setattr(pool, "_ask", ask_and_kill)
        found = fitter(pool, 12, config=config, seed=4)
    assert trips > 2 or name == "a sample, spherical"  # which asks for the sample, then for sizes
    assert found.centroids.tobytes() == expected.centroids.tobytes()
    assert found.sizes.tolist() == expected.sizes.tolist()
    assert found.ancestors.tolist() == expected.ancestors.tolist()
    assert found.inertia == expected.inertia


def test_the_device_reaches_every_assignment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on another device asks that device's engine, and gives the same sums."""
    shards = write_shards(tmp_path, 2)
    here = PoolWorker(Store(), shards, normalize=True)
    centroids = here._rows[0][1][:6].copy()
    scale = make_scale(len(IDS), 6, 1.0)
    asked: list[str] = []

    def choose(device: str) -> assignment.Engine:
        asked.append(device)
        return "torch"

    expected = here.sums(centroids, scale)
    monkeypatch.setattr(assignment, "choose_engine", choose)
    monkeypatch.setattr(assignment, "SMALL", 0)
    # torch's own second device, of which there is one on any machine: the CPU by its full name
    found = PoolWorker(Store(), shards, normalize=True, compute=Compute("cpu:0")).sums(
        centroids, scale
    )
    assert asked == ["cpu:0", "cpu:0"]
    assert expected is not None
    assert found is not None
    assert found.sums.tobytes() == expected.sums.tobytes()
    assert found.inertia == expected.inertia
