"""Constraints on Ray workers give what they give on one array, also after a worker's death."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import ray

from balancer.config import SelectionConfig, Strategy, can_trim, can_weigh
from balancer.errors import DataError
from balancer.seeding import derive_seed
from balancer.selection import Constraints, select_certified
from balancer.selection.certified import certify_selection
from balancer.selection.settings import Settings
from balancer.selection.strategies import CLUSTERED, run_strategy
from balancer.stages import pool as pool_module
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool import RayPool, open_pool
from balancer.stages.pool_messages import Behind
from balancer.stages.pool_worker import PoolWorker
from balancer.storage.filesystem import Store
from balancer.types import EmbeddingShard, ShardRef
from tests.stages.shards import catalog_of
from tests.stages.test_pool import (
    BUDGET,
    BY_SHARD,
    IDS,
    KMEANS,
    POINTS,
    SEED,
    assert_same,
    clustered,
    write_shards,
)

INCLUDE = IDS[[298, 3, 251]]
EXCLUDE = np.concatenate([IDS[5:300:7], ["of another archive"]])
QUALITY = np.random.default_rng(4).uniform(0.3, 2, len(IDS))


def cataloged(folder: Path, shards: Sequence[EmbeddingShard]) -> dict[str, ShardRef]:
    return catalog_of(folder, IDS, shards, {"q": QUALITY})


def configured(strategy: Strategy) -> SelectionConfig:
    """Return a configuration with every constraint that means something for the strategy."""
    return SelectionConfig(
        budget=BUDGET,
        strategy=strategy,
        quality_column="q" if can_weigh(strategy, "farthest-point") else None,
        num_outliers=4 if can_trim(strategy) else 0,
    )


@contextmanager
def pool_of(folder: Path, num_shards: int, num_workers: int) -> Iterator[RayPool]:
    shards = write_shards(folder, num_shards)
    actor: Any = ray.remote(PoolWorker).options(num_cpus=0)
    workers = [
        actor.remote(
            Store(),
            list(shards[number::num_workers]),
            normalize=True,
            metadata=Metadata(tuple(cataloged(folder, shards).values()), ("q",)),
            exclude=EXCLUDE,
        )
        for number in range(num_workers)
    ]
    yield RayPool(workers)
    for worker in workers:
        ray.kill(worker)


def settings_of(config: SelectionConfig, pool: RayPool) -> tuple[RayPool, Settings]:
    clustering = clustered(pool, config.strategy) if config.strategy in CLUSTERED else None
    rows = pool if clustering is None else pool.with_clustering(clustering)
    seed = derive_seed(SEED, "select")
    return rows, Settings.of(config, seed, clustering, include=INCLUDE)


@pytest.mark.ray
@pytest.mark.parametrize(("num_shards", "num_workers"), [(1, 1), (3, 2), (8, 3)])
def test_picks_and_certificates_are_those_of_the_array(
    ray_cluster: str, tmp_path: Path, num_shards: int, num_workers: int
) -> None:
    assert ray_cluster
    strategies: list[Strategy] = [
        s for s in get_args(Strategy) if s not in BY_SHARD or num_shards == 1
    ]
    with pool_of(tmp_path, num_shards, num_workers) as pool:
        for strategy in strategies:
            config = configured(strategy)
            rows, settings = settings_of(config, pool)
            picked = run_strategy(strategy, rows, BUDGET, settings)
            limits = Constraints(INCLUDE, EXCLUDE, QUALITY if config.quality_column else None)
            expected, certify = select_certified(
                POINTS, config, ids=IDS, seed=SEED, clustering=KMEANS, constraints=limits
            )
            assert_same(picked, expected)
            assert picked.num_included == expected.num_included == len(INCLUDE)
            if config.num_outliers:
                assert picked.outliers is not None
                assert expected.outliers is not None
                assert picked.outliers.tolist() == expected.outliers.tolist()
            found = certify_selection(rows, picked, seed=settings.seed)
            assert found.certificate == certify().certificate


@pytest.mark.ray
def test_a_worker_killed_between_picks_changes_nothing(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_cluster
    monkeypatch.setattr(pool_module, "room_for", lambda *_: 4)  # many round trips
    shards = write_shards(tmp_path, 3)
    config = configured("farthest-point")
    with open_pool(
        Store(),
        shards,
        normalize=True,
        num_workers=2,
        metadata=Metadata(tuple(cataloged(tmp_path, shards).values()), ("q",)),
        exclude=EXCLUDE,
    ) as pool:
        rows, settings = settings_of(config, pool)
        ask, trips, behind = rows._ask, 0, 0

        def ask_and_kill(method: str, *arguments: object) -> list[Any]:
            nonlocal trips, behind
            if method == "offer":
                trips += 1
                if trips == 4:
                    ray.kill(rows._workers[0], no_restart=False)
            answers = ask(method, *arguments)
            behind += sum(isinstance(answer, Behind) for answer in answers)
            return answers

        monkeypatch.setattr(rows, "_ask", ask_and_kill)
        picked = run_strategy("farthest-point", rows, BUDGET, settings)
    assert behind == 1  # the restarted worker dropped the excluded rows again
    limits = Constraints(INCLUDE, EXCLUDE, QUALITY)
    expected, _ = select_certified(POINTS, config, ids=IDS, seed=SEED, constraints=limits)
    assert_same(picked, expected)


def test_emptied_shards_keep_the_order_of_the_others(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, 3)
    sizes = np.cumsum([0, *(shard.num_rows for shard in shards)])
    worker = PoolWorker(Store(), shards, normalize=True, exclude=IDS[sizes[1] : sizes[2]])
    assert [place for place, _ in worker.map_shards(len_of, ())] == [0, 2]
    assert worker.extent()[0] == len(IDS) - shards[1].num_rows


def len_of(rows: Any) -> int:  # noqa: ANN401 - a step that only counts
    return len(rows.ids)


@pytest.mark.ray
def test_excluding_everything(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    shards = write_shards(tmp_path, 3)
    with (
        pytest.raises(DataError, match="must leave some tiles to pick from; it names all"),
        open_pool(Store(), shards, normalize=True, num_workers=1, exclude=IDS),
    ):
        pass
