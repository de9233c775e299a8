"""Workers that keep their bounds with torch, a filter or numba pick the same, dead ones too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from balancer.clustering import assignment
from balancer.clustering.lloyd import make_scale
from balancer.clustering.members import local_members
from balancer.clustering.parallel_seeding import local_candidates
from balancer.config import SelectionConfig, Strategy
from balancer.seeding import derive_seed
from balancer.selection.arrays import prepare
from balancer.selection.exchange import Picks
from balancer.selection.farthest_point import farthest_point
from balancer.selection.medoids import cell_labels
from balancer.selection.outliers import local_outliers
from balancer.selection.settings import Settings
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.selection.strata import cluster_strata
from balancer.selection.strategies import run_strategy
from balancer.selection.stratum_picks import PickPlan
from balancer.stages import pool as pool_module
from balancer.stages.pool import RayPool, open_pool
from balancer.stages.pool_messages import Behind, Compute
from balancer.stages.pool_worker import PoolWorker
from balancer.storage.filesystem import Store
from balancer.types import EmbeddingShard, FloatArray
from tests.stages.test_pool import (
    BUDGET,
    IDS,
    POINTS,
    SEED,
    assert_same,
    clustered,
    on_array,
    write_shards,
)

TORCH = EngineChoice("cpu:0")
"""Torch's own name of the CPU, which is a device like any other to it."""


@contextmanager
def workers_of(
    shards: Sequence[EmbeddingShard], engines: Sequence[EngineChoice]
) -> Iterator[RayPool]:
    """Open a pool with one worker per engine, more than the cluster has CPUs if need be."""
    actor: Any = ray.remote(PoolWorker).options(num_cpus=0, max_restarts=2, max_task_retries=2)
    workers = [
        actor.remote(
            Store(),
            list(shards[number :: len(engines)]),
            normalize=True,
            compute=Compute(num_threads=1, engine=engine),
        )
        for number, engine in enumerate(engines)
    ]
    yield RayPool(workers)
    for worker in workers:
        ray.kill(worker)


def plain_ids(num_picks: int) -> tuple[list[str], Picks]:
    points, ids = prepare(POINTS, IDS, normalize=True)
    plain = farthest_point(points, num_picks, first=0, ids=ids, engine="plain")
    return ids[plain.indices[1:]].tolist(), Picks(ids[:1], points[:1], np.empty(0, np.float32))


@pytest.mark.ray
@pytest.mark.parametrize(
    "engines",
    [[TORCH], [TORCH, TORCH, EngineChoice("cpu", "torch")]],
    ids=["one", "three"],
)
def test_any_worker_may_die(
    ray_cluster: str,
    tmp_path: Path,
    engines: list[EngineChoice],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ray_cluster
    monkeypatch.setattr(pool_module, "room_for", lambda *_: 3)  # many round trips
    expected, first = plain_ids(90)
    trips = behind = 0
    with workers_of(write_shards(tmp_path, 4), engines) as pool:
        ask = pool._ask

        def ask_and_kill(method: str, *arguments: object) -> list[Any]:
            nonlocal trips, behind
            trips += 1
            if trips == 4:
                ray.kill(pool._workers[0], no_restart=False)
            answers = ask(method, *arguments)
            behind += sum(isinstance(answer, Behind) for answer in answers)
            return answers

        monkeypatch.setattr(pool, "_ask", ask_and_kill)
        run = pool.farthest(89, first)
    assert run.picks.ids.tolist() == expected
    assert behind == 1
    assert trips > 4


@pytest.mark.ray
def test_strategies_on_devices(ray_cluster: str, tmp_path: Path) -> None:
    """The choice of the configuration reaches the workers; heads of strata use it too."""
    assert ray_cluster
    strategies: tuple[Strategy, ...] = ("farthest-point", "hybrid", "per-cluster")
    shards, engine = write_shards(tmp_path, 3), EngineChoice("cpu:0")
    with open_pool(Store(), shards, normalize=True, num_workers=2, engine=engine) as pool:
        clustering = clustered(pool)
        for strategy in strategies:
            config = SelectionConfig(budget=BUDGET, strategy=strategy)
            settings = Settings.of(config, derive_seed(SEED, "select"), clustering)
            picked = run_strategy(strategy, pool.with_clustering(clustering), BUDGET, settings)
            assert_same(picked, on_array(strategy, "farthest-point"))


def test_a_worker_with_a_gpu_uses_it(tmp_path: Path) -> None:
    """`auto` follows the worker's device, unless a filter for the CPU is asked for."""
    shards = write_shards(tmp_path, 1)

    def engine_of(device: str, choice: EngineChoice) -> EngineChoice:
        compute = Compute(device, engine=choice)
        return PoolWorker(Store(), shards, normalize=True, compute=compute)._engine

    assert engine_of("cuda", EngineChoice()) == EngineChoice("cuda")
    assert engine_of("cpu", EngineChoice()) == ON_CPU
    assert engine_of("cuda", EngineChoice("cpu")) == ON_CPU
    assert engine_of("cuda", EngineChoice(filter="faiss")) == EngineChoice("cpu", "faiss")


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_pool_gives_its_workers_a_device(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    given: list[Compute] = []

    class Actor:
        def options(self, **_: object) -> Actor:
            return self

        def remote(self, *_: object, compute: Compute, **__: object) -> None:
            given.append(compute)

    monkeypatch.setattr(ray, "remote", lambda _: Actor())
    monkeypatch.setattr(ray, "kill", lambda _: None)
    monkeypatch.setattr(pool_module, "RayPool", lambda _: None)
    monkeypatch.setattr(pool_module, "available_gpus", lambda: 2)
    monkeypatch.setattr(pool_module, "available_cpus", lambda: 4)
    shard = EmbeddingShard("s", "s", 3, 2, "e", "0")
    with open_pool(Store(), [shard] * 8, normalize=True, num_gpus=gpus, engine=EngineChoice()):
        pass
    assert [compute.device for compute in given] == (["cuda"] * 2 if gpus else ["cpu"] * 4)
    assert {compute.num_threads for compute in given} == ({2} if gpus else {1})


def test_every_assignment_runs_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strata, Voronoi cells, and the local steps of `map_shards`, on each of two shards."""
    asked: list[str] = []

    def choose(device: str) -> assignment.Engine:
        asked.append(device)
        return "compiled" if device == "cpu" else "torch"

    monkeypatch.setattr(assignment, "choose_engine", choose)
    monkeypatch.setattr(assignment, "SMALL", 0)
    shards = write_shards(tmp_path, 2)
    found = []
    for device in ("cpu", "cpu:0"):
        asked.clear()
        worker = PoolWorker(Store(), shards, normalize=True, compute=Compute(device))
        centroids, ids = worker._points[:6].copy(), worker._ids[:6]
        plan, wanted = _plan(centroids), np.full(6, 3)
        members = worker.map_shards(local_members, (centroids, wanted, "nearest", 0))
        joined = worker.map_shards(local_candidates, (centroids, 1e-3, 0))
        far = worker.map_shards(local_outliers, (ids, centroids, 5, None))
        cells = worker.map_shards(cell_labels, (ids, centroids))
        sums = worker.cell_sums(plan, "key", 0, (ids, centroids), make_scale(300, 6, 1.0))
        found.append(
            [
                worker._stratum_labels(plan, "key").tolist(),
                [part.ids.tolist() for _, part in members],
                [part.tolist() for _, (part, _) in joined],
                [part.ids.tolist() for _, part in far],
                [part.tolist() for _, part in cells],
                sums.sums.tolist(),
            ]
        )
        assert len(asked) == 5 * 2 + 1
        assert set(asked) == {device}
    assert found[0] == found[1]


def _plan(centroids: FloatArray) -> PickPlan:
    count = len(centroids)
    strata = cluster_strata(np.full(count, 50))
    return PickPlan(strata, np.ones(count, np.int64), "random", 0, centroids)
