"""Strata on Ray workers: heads split over them, metadata axes, lost workers, weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import fit
from balancer.config import QuotasConfig, SelectionConfig, Strategy, Within
from balancer.errors import ConfigError
from balancer.seeding import derive_seed
from balancer.selection.arrays import prepare
from balancer.selection.pool import ArrayPool
from balancer.selection.settings import Settings
from balancer.selection.strategies import run_strategy
from balancer.stages import stratum_picks
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool import RayPool
from balancer.stages.pool_messages import Behind
from balancer.stages.pool_worker import PoolWorker
from balancer.stages.stratum_picks import head_strata
from balancer.stages.weights import write_shard_weights
from balancer.storage.allocations import allocation_table, read_allocation
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table
from balancer.types import Clustering, Selection, ShardRef
from tests.data.tiny_runs import Finished, finish, trained
from tests.stages.test_pool import IDS, KMEANS, POINTS, SEED, assert_same, write_shards

BIOME = np.array(["ice", "sand", "sea"], dtype=object)[np.arange(len(IDS)) % 7 % 3]
BIOME[::11] = None
SEASON = np.array(["dry", "wet"], dtype=object)[np.arange(len(IDS)) // 5 % 2]
COLUMNS = {"biome": BIOME, "season": SEASON}
AXES = QuotasConfig(axes={"biome": "uniform", "season": {"dry": 0.7}}, repeats=2)


@contextmanager
def pool_with_columns(folder: Path, num_shards: int, num_workers: int) -> Iterator[RayPool]:
    shards = write_shards(folder, num_shards)
    catalog, start = {}, 0
    for shard in shards:
        rows = slice(start, start + shard.num_rows)
        start = rows.stop
        uri = str(folder / f"catalog-{shard.shard_id}.parquet")
        table = {"tile_id": IDS[rows].tolist()} | {n: c[rows].tolist() for n, c in COLUMNS.items()}
        file = write_table(Store(), uri, pa.table(table))
        catalog[shard.shard_id] = ShardRef(
            shard.shard_id, "", uri, "", file.sha256, shard.num_rows, 0
        )
    actor: Any = ray.remote(PoolWorker).options(num_cpus=0, max_restarts=2, max_task_retries=2)
    workers = [
        actor.remote(
            Store(),
            shards[number::num_workers],
            normalize=True,
            metadata=Metadata(tuple(catalog.values()), tuple(COLUMNS)),
        )
        for number in range(num_workers)
    ]
    yield RayPool(workers)
    for worker in workers:
        ray.kill(worker)


def settings(clustering: Clustering, within: Within, quotas: QuotasConfig) -> Settings:
    config = SelectionConfig(budget=40, strategy="per-cluster", within=within, quotas=quotas)
    return Settings.of(config, derive_seed(SEED, "select"), clustering)


def clustered(pool: RayPool | ArrayPool) -> Clustering:
    return fit(pool, 8, config=KMEANS, seed=derive_seed(SEED, "cluster"))


def on_array(strategy: Strategy, within: Within, quotas: QuotasConfig) -> Selection:
    points, ids = prepare(POINTS, IDS, normalize=True)
    clustering = clustered(ArrayPool(points, ids))
    labels, _ = assign(points, clustering.centroids)
    pool = ArrayPool(points, ids, labels, clustering.centroids, COLUMNS)
    return run_strategy(strategy, pool, 40, settings(clustering, within, quotas))


def on_workers(
    pool: RayPool, strategy: Strategy, within: Within, quotas: QuotasConfig
) -> Selection:
    clustering = clustered(pool)
    rows = pool.with_clustering(clustering)
    return run_strategy(strategy, rows, 40, settings(clustering, within, quotas))


CASES: list[tuple[Strategy, Within]] = [
    ("per-cluster", "random"),
    ("per-cluster", "nearest"),
    ("per-cluster", "farthest-point"),
    ("per-cluster", "medoid"),
    ("hybrid", "farthest-point"),
]


@pytest.mark.ray
@pytest.mark.parametrize("layout", [(2, 1), (7, 3)], ids=str)
def test_axes_are_kept_alike_by_any_layout(
    ray_cluster: str, tmp_path: Path, layout: tuple[int, int]
) -> None:
    assert ray_cluster
    with pool_with_columns(tmp_path, *layout) as pool:
        for strategy, within in CASES:
            found = on_workers(pool, strategy, within, AXES)
            expected = on_array(strategy, within, AXES)
            assert_same(found, expected)
            assert found.allocation is not None
            assert expected.allocation is not None
            assert found.allocation.report == expected.allocation.report
            assert found.allocation.counts.tolist() == expected.allocation.counts.tolist()
            assert found.repeats is not None
            assert found.repeats.tolist() == np.asarray(expected.repeats).tolist()


@pytest.mark.ray
@pytest.mark.parametrize("share", [0.0, 1e9], ids=["all are heads", "none is a head"])
def test_picks_do_not_depend_on_which_strata_are_heads(
    ray_cluster: str,
    tmp_path: Path,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ray_cluster
    monkeypatch.setattr(stratum_picks, "HEAD_SHARE", share)
    monkeypatch.setattr(stratum_picks, "room_for", lambda *_: 3)  # many round trips
    rules: tuple[Within, ...] = ("farthest-point", "medoid")
    with pool_with_columns(tmp_path, 5, 3) as pool:
        for within in rules:
            found = on_workers(pool, "per-cluster", within, QuotasConfig())
            assert_same(found, on_array("per-cluster", within, QuotasConfig()))


@pytest.mark.ray
def test_a_worker_lost_amid_a_head(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_cluster
    monkeypatch.setattr(stratum_picks, "HEAD_SHARE", 0.0)
    monkeypatch.setattr(stratum_picks, "room_for", lambda *_: 1)
    with pool_with_columns(tmp_path, 4, 2) as pool:
        clustering = clustered(pool)
        rows = pool.with_clustering(clustering)
        ask, trips, behind = rows._ask, 0, 0

        def ask_and_kill(method: str, *arguments: object) -> list[Any]:
            nonlocal trips, behind
            trips += method == "offer"
            if method == "offer" and trips == 2:
                ray.kill(rows._workers[1], no_restart=False)
            answers = ask(method, *arguments)
            behind += sum(isinstance(answer, Behind) for answer in answers)
            return answers

        monkeypatch.setattr(rows, "_ask", ask_and_kill)
        quotas = QuotasConfig()
        found = run_strategy(
            "per-cluster", rows, 40, settings(clustering, "farthest-point", quotas)
        )
    assert behind == 1
    assert_same(found, on_array("per-cluster", "farthest-point", quotas))


def test_heads_by_hand() -> None:
    sizes, counts = np.array([50, 10, 20, 20]), np.array([1, 90, 0, 1])
    # A fourth of 100 rows, or of 970 (50 + 900 + 20) pairs.
    assert head_strata(sizes, counts, 2).tolist() == [0, 1]
    assert head_strata(sizes, counts, 1).tolist() == []


@pytest.mark.ray
def test_weights_are_written_once_per_shard(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    ledger = Ledger(Store(), str(tmp_path / "run"))
    with pool_with_columns(tmp_path, 4, 2) as pool:
        clustering = clustered(pool)
        rows = pool.with_clustering(clustering)
        picked = run_strategy("per-cluster", rows, 40, settings(clustering, "random", AXES))
        assert picked.allocation is not None
        table, notes = allocation_table(picked.allocation)
        uri = str(tmp_path / "allocation.parquet")
        write_table(Store(), uri, table, notes)
        stored = read_allocation(read_table(Store(), uri))
        assert stored.report == picked.allocation.report
        arguments = (ledger, "weights", "inputs", clustering.centroids, stored)
        records = pool.map_shards(write_shard_weights, *arguments, frozenset(["shard1"]))
        assert [record is None for record in records] == [False, True, False, False]
        records = pool.map_shards(write_shard_weights, *arguments, frozenset())
    found = pd.concat(pd.read_parquet(ledger.absolute(r["path"])) for r in records if r is not None)
    assert found["tile_id"].tolist() == IDS.tolist()
    assert found["weight"].sum() == pytest.approx(40)
    weight = dict(zip(found["tile_id"], found["weight"], strict=True))
    for tile, stands_for in zip(picked.tile_ids.tolist(), picked.weight.tolist(), strict=True):
        assert weight[tile] == pytest.approx(1 / stands_for)


@pytest.fixture(scope="module")
def run(ray_cluster: str, demo_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a finished round with quotas over a metadata column."""
    assert ray_cluster
    quotas = {"axes": {"class": {"volcano": 0.1}}, "repeats": 3}
    selection = {"budget": 40, "strategy": "per-cluster", "quotas": quotas}
    out = tmp_path_factory.mktemp("quotas") / "run"
    return finish(trained(demo_archive, out, rounds=1, selection=selection))


@pytest.mark.ray
class TestRun:
    def test_weights_of_the_whole_archive(self, run: Finished) -> None:
        found = pd.read_parquet(run.folder / "weights.parquet")
        assert len(found) == found["tile_id"].nunique() == 240
        assert found["weight"].sum() == pytest.approx(40)
        commit = run.record("round-000", "COMMIT.json")
        assert sum(len(pd.read_parquet(run.folder / f["path"])) for f in commit["weights"]) == 240

    def test_manifest_says_how_often_and_what_was_not_reached(self, run: Finished) -> None:
        found = pd.read_parquet(run.folder / "manifest.parquet")
        assert found["repeats"].sum() == 40
        assert found["repeats"].between(1, 3).all()
        assert found.groupby("class")["repeats"].sum().max() <= 5
        [facts] = [run.record("round-000", "select", "done", "selections.json")]
        lines = facts["notes"]["quotas"]
        assert "class=volcano: 0 of 4 reached, because no tile has it." in lines
        assert all(line.endswith(".") for line in lines)

    def test_a_column_that_is_not_there(self, run: Finished, tmp_path: Path) -> None:
        quotas = {"axes": {"biom": "uniform"}}
        selection = {"budget": 40, "strategy": "per-cluster", "quotas": quotas}
        config = trained(run.config.archive.uri, tmp_path / "run", rounds=1, selection=selection)
        with pytest.raises(ConfigError, match=r"got 'biom'\. There are: .*class"):
            finish(config)
