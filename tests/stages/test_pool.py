"""Rows on Ray workers give what one array gives: any sharding, any workers, a worker's death."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import ray
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.hierarchy import fit_hierarchy
from balancer.clustering.kmeans import fit
from balancer.config import ClusteringConfig, SelectionConfig, Strategy, Within
from balancer.imbalance.radius import covering_radii
from balancer.seeding import derive_seed
from balancer.selection import STRATEGIES, select
from balancer.selection.arrays import prepare
from balancer.selection.pool import ArrayPool
from balancer.selection.settings import Settings
from balancer.selection.strategies import run_strategy
from balancer.stages import pool as pool_module
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool import RayPool, open_pool
from balancer.stages.pool_messages import Behind
from balancer.stages.pool_worker import PoolWorker
from balancer.stages.stratum_picks import deal_clusters
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table
from balancer.types import (
    Clustering,
    EmbeddingShard,
    FloatArray,
    IdArray,
    Selection,
    ShardRef,
    ShardRows,
)
from tests.stages.shards import cut_into_shards

SEED, BUDGET = 3, 40
KMEANS = ClusteringConfig(num_clusters=8)
BY_SHARD: frozenset[Strategy] = frozenset({"composable", "composable-epsilon"})
"""Strategies whose picks may depend on which rows share a shard; on workers none may."""
RULES: list[tuple[Strategy, Within]] = [
    (strategy, within)
    for strategy in STRATEGIES
    if strategy not in BY_SHARD
    for within in (get_args(Within) if strategy == "per-cluster" else ("farthest-point",))
]
LAYOUTS = [(1, 1), (3, 2), (8, 1), (8, 3)]
"""(shards, workers)."""


def make_rows() -> tuple[FloatArray, IdArray]:
    """Return four groups of 240, 48, 10 and 2 rows with some exact repetitions, and ids."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), [240, 48, 10, 2])
    points = 2 * rng.standard_normal((4, 6))[group] + 0.3 * rng.standard_normal((len(group), 6))
    points[20:30] = points[10:20]  # ties, that only ids can break
    ids = np.array([f"tile/{number:x}" for number in rng.permutation(len(group))])
    return points.astype(np.float32), ids


POINTS, IDS = make_rows()


def write_shards(folder: Path, count: int) -> list[EmbeddingShard]:
    return cut_into_shards(folder, IDS, POINTS, count)


@contextmanager
def pool_of(shards: Sequence[EmbeddingShard], num_workers: int) -> Iterator[RayPool]:
    """Open a pool of exactly so many workers, more than the cluster has CPUs if need be."""
    actor: Any = ray.remote(PoolWorker).options(num_cpus=0)
    workers = [
        actor.remote(Store(), list(shards[number::num_workers]), normalize=True)
        for number in range(num_workers)
    ]
    yield RayPool(workers)
    for worker in workers:
        ray.kill(worker)


def on_array(strategy: Strategy, within: Within) -> Selection:
    config = SelectionConfig(budget=BUDGET, strategy=strategy, within=within)
    return select(POINTS, config, ids=IDS, seed=SEED, clustering=KMEANS)


def clustered(pool: RayPool | ArrayPool, strategy: Strategy = "per-cluster") -> Clustering:
    fitter = fit_hierarchy if strategy == "hierarchical" else fit
    return fitter(pool, 8, config=KMEANS, seed=derive_seed(SEED, "cluster"))


def on_pool(pool: RayPool, strategy: Strategy, within: Within) -> Selection:
    clustering = clustered(pool, strategy)
    config = SelectionConfig(budget=BUDGET, strategy=strategy, within=within)
    settings = Settings.of(config, derive_seed(SEED, "select"), clustering)
    return run_strategy(strategy, pool.with_clustering(clustering), BUDGET, settings)


def assert_same(picked: Selection, expected: Selection) -> None:
    assert picked.tile_ids.tolist() == expected.tile_ids.tolist()
    assert picked.cluster.tolist() == expected.cluster.tolist()
    assert picked.reason.tolist() == expected.reason.tolist()
    assert picked.weight.tobytes() == expected.weight.tobytes()
    assert picked.distance.tobytes() == expected.distance.tobytes()


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda p: f"{p[0]}-shards-{p[1]}-workers")
def pool(
    request: pytest.FixtureRequest, ray_cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayPool]:
    assert ray_cluster
    num_shards, num_workers = request.param
    folder = tmp_path_factory.mktemp("embeddings")
    with pool_of(write_shards(folder, num_shards), num_workers) as opened:
        yield opened


@pytest.mark.ray
class TestAnyLayout:
    @pytest.mark.parametrize(("strategy", "within"), RULES)
    def test_picks_are_those_of_the_array(
        self, pool: RayPool, strategy: Strategy, within: Within
    ) -> None:
        assert_same(on_pool(pool, strategy, within), on_array(strategy, within))

    def test_clusters_are_those_of_the_array(self, pool: RayPool) -> None:
        points, ids = prepare(POINTS, IDS, normalize=True)
        expected = clustered(ArrayPool(points, ids))
        found = clustered(pool)
        assert found.centroids.tobytes() == expected.centroids.tobytes()
        assert found.sizes.tolist() == expected.sizes.tolist()
        assert found.inertia == expected.inertia

    def test_covering_radii_are_exact(self, pool: RayPool) -> None:
        points, _ = prepare(POINTS, IDS, normalize=True)
        picks = points[::17].copy()
        assert pool.covering_radii(picks) == covering_radii(assign(points, picks)[1])

    def test_vectors_come_in_the_order_asked_for(self, pool: RayPool) -> None:
        points, _ = prepare(POINTS, IDS, normalize=True)
        rows = np.array([299, 0, 150, 31])
        assert pool.vectors(IDS[rows]).tobytes() == points[rows].tobytes()

    def test_local_steps_come_in_the_order_of_the_shards(self, pool: RayPool) -> None:
        found = pool.map_shards(_first_row, "x")
        assert found == sorted(found, key=lambda part: IDS.tolist().index(part[0]))
        assert sum(count for _, count, _ in found) == len(IDS)
        assert {text for _, _, text in found} == {"x"}

    def test_an_unknown_id_is_named(self, pool: RayPool) -> None:
        with pytest.raises(KeyError, match="tile/none is not among the rows"):
            pool.vectors(np.array(["tile/0", "tile/none"]))

    def test_assignments_cover_every_row_once(self, pool: RayPool, tmp_path: Path) -> None:
        ledger = Ledger(Store(), str(tmp_path))
        clustering = clustered(pool)
        records = pool.with_clustering(clustering).write_assignments(ledger, "assign", "inputs")
        found: dict[str, int] = {}
        for record in records:
            table = read_table(ledger.store, ledger.absolute(record["path"]))
            found |= dict(
                zip(table["tile_id"].to_pylist(), table["cluster"].to_pylist(), strict=True)
            )
        points, _ = prepare(POINTS, IDS, normalize=True)
        labels, _ = assign(points, clustering.centroids)
        assert sum(record["rows"] for record in records) == len(IDS)
        assert found == dict(zip(IDS.tolist(), labels.tolist(), strict=True))


def _first_row(rows: ShardRows, text: str) -> tuple[str, int, str]:
    return str(rows.ids[0]), len(rows.points), text


def test_columns_follow_the_rows(tmp_path: Path) -> None:
    [shard] = write_shards(tmp_path, 1)
    order = np.random.default_rng(0).permutation(len(IDS))
    catalog = tmp_path / "catalog.parquet"
    file = write_table(
        Store(),
        str(catalog),
        pa.table(
            {
                "tile_id": IDS[order].tolist(),
                "cloud": [None if row == 3 else float(row) for row in order],
                "biome": [f"b{row % 3}" for row in order],
            }
        ),
    )
    ref = ShardRef(shard.shard_id, "", str(catalog), "", file.sha256, len(IDS), 0)
    names = ("cloud", "biome", "absent")
    worker = PoolWorker(Store(), [shard], normalize=True, metadata=Metadata((ref,), names))
    [(place, columns)] = worker.map_shards(_columns, ())
    assert place == 0
    assert np.isnan(columns["cloud"][3])
    assert columns["cloud"][4:].tolist() == list(range(4, len(IDS)))
    assert columns["biome"].tolist() == [f"b{row % 3}" for row in range(len(IDS))]
    assert columns["absent"].tolist() == [None] * len(IDS)


def _columns(rows: ShardRows) -> dict[str, NDArray[Any]]:
    return dict(rows.columns)


@pytest.mark.ray
class TestLostWorkers:
    @pytest.mark.parametrize("strategy", ["farthest-point", "hybrid"])
    def test_a_worker_killed_between_picks_changes_nothing(
        self,
        ray_cluster: str,
        tmp_path: Path,
        strategy: Strategy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert ray_cluster
        monkeypatch.setattr(pool_module, "room_for", lambda *_: 2)  # many round trips
        with open_pool(Store(), write_shards(tmp_path, 3), normalize=True, num_workers=2) as pool:
            clustering = clustered(pool)
            settings = Settings.of(
                SelectionConfig(budget=BUDGET), derive_seed(SEED, "select"), clustering
            )
            rows = pool.with_clustering(clustering)
            kill_at = [2] if strategy == "hybrid" else [3, 6]
            ask, trips, behind = rows._ask, 0, 0

            def ask_and_kill(method: str, *arguments: object) -> list[Any]:
                nonlocal trips, behind
                if method == "offer":
                    trips += 1
                    if trips in kill_at:
                        victim = rows._workers[kill_at.index(trips) % len(rows._workers)]
                        ray.kill(victim, no_restart=False)
                answers = ask(method, *arguments)
                behind += sum(isinstance(answer, Behind) for answer in answers)
                return answers

            monkeypatch.setattr(rows, "_ask", ask_and_kill)
            picked = run_strategy(strategy, rows, BUDGET, settings)
        assert behind == len(kill_at)  # each restarted worker was sent all picks again
        assert trips > max(kill_at)
        assert rows.last_exchange.num_picks >= 10
        assert_same(picked, on_array(strategy, "farthest-point"))

    def test_a_worker_killed_before_the_radii_are_resolved(
        self, ray_cluster: str, tmp_path: Path
    ) -> None:
        assert ray_cluster
        points, _ = prepare(POINTS, IDS, normalize=True)
        picks = points[:9].copy()
        with open_pool(Store(), write_shards(tmp_path, 3), normalize=True, num_workers=2) as pool:
            ask = pool._ask

            def ask_and_kill(method: str, *arguments: object) -> list[Any]:
                answers = ask(method, *arguments)
                if method == "nearest_pick":
                    ray.kill(pool._workers[1], no_restart=False)
                return answers

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pool, "_ask", ask_and_kill)
                radii = pool.covering_radii(picks)
        assert radii == covering_radii(assign(points, picks)[1])


@pytest.mark.ray
@pytest.mark.parametrize("strategy", sorted(BY_SHARD))
def test_coresets_depend_on_shards_and_not_on_workers(
    ray_cluster: str, tmp_path: Path, strategy: Strategy
) -> None:
    assert ray_cluster
    shards = write_shards(tmp_path, 5)
    found = []
    for num_workers in (1, 2, 5):
        with pool_of(shards, num_workers) as pool:
            found.append(on_pool(pool, strategy, "farthest-point"))
    assert len(set(found[0].tile_ids.tolist())) == BUDGET
    for other in found[1:]:
        assert_same(other, found[0])
        assert other.factor == found[0].factor


class TestDealClusters:
    def test_clusters_that_give_nothing_are_left_out(self) -> None:
        groups = deal_clusters(np.array([5, 9, 3]), np.array([1, 0, 1]), 2)
        assert [group.tolist() for group in groups] == [[0], [2]]

    def test_never_more_groups_than_clusters(self) -> None:
        assert len(deal_clusters(np.array([5]), np.array([2]), 8)) == 1

    def test_every_giving_cluster_once(self) -> None:
        rng = np.random.default_rng(0)
        sizes, counts = rng.integers(1, 100, 50), rng.integers(0, 3, 50)
        groups = deal_clusters(sizes, counts, 7)
        dealt = np.concatenate(groups)
        assert sorted(dealt.tolist()) == np.flatnonzero(counts).tolist()
        loads = [int((sizes[group] * counts[group]).sum()) for group in groups]
        assert max(loads) <= 2 * min(loads)
