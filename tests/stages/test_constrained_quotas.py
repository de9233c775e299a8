"""Quotas over axes with included and excluded tiles and quality: alike on workers and arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray

from balancer.config import QuotasConfig, SelectionConfig, Strategy, Within, can_weigh
from balancer.seeding import derive_seed
from balancer.selection import Constraints
from balancer.selection.arrays import TileWeights, select_weighted
from balancer.selection.settings import Settings
from balancer.selection.strategies import run_strategy
from balancer.stages import stratum_picks
from balancer.stages.metadata_columns import Metadata
from balancer.stages.pool import RayPool
from balancer.stages.pool_worker import PoolWorker
from balancer.stages.weights import write_shard_weights
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.types import Selection
from tests.stages.shards import catalog_of
from tests.stages.test_constrained_pool import EXCLUDE, INCLUDE, QUALITY
from tests.stages.test_pool import (
    BUDGET,
    IDS,
    KMEANS,
    POINTS,
    SEED,
    assert_same,
    clustered,
    write_shards,
)
from tests.stages.test_stratum_picks import AXES, CASES, COLUMNS


@contextmanager
def pool_of(folder: Path, num_shards: int, num_workers: int) -> Iterator[RayPool]:
    shards = write_shards(folder, num_shards)
    catalog = catalog_of(folder, IDS, shards, {"q": QUALITY, **COLUMNS})
    actor: Any = ray.remote(PoolWorker).options(num_cpus=0)
    workers = [
        actor.remote(
            Store(),
            list(shards[number::num_workers]),
            normalize=True,
            metadata=Metadata(
                tuple(catalog.values()),
                ("biome", "season", "q"),
            ),
            exclude=EXCLUDE,
        )
        for number in range(num_workers)
    ]
    yield RayPool(workers)
    for worker in workers:
        ray.kill(worker)


def configured(strategy: Strategy, within: Within, quotas: QuotasConfig) -> SelectionConfig:
    quality = "q" if can_weigh(strategy, within) else None
    return SelectionConfig(
        budget=BUDGET, strategy=strategy, within=within, quotas=quotas, quality_column=quality
    )


def on_array(config: SelectionConfig) -> tuple[Selection, TileWeights]:
    limits = Constraints(INCLUDE, EXCLUDE, QUALITY if config.quality_column else None)
    picked, _, weights = select_weighted(
        POINTS,
        config,
        ids=IDS,
        seed=SEED,
        clustering=KMEANS,
        constraints=limits,
        columns=COLUMNS,
    )
    assert weights is not None
    return picked, weights


@pytest.mark.ray
@pytest.mark.parametrize("layout", [(1, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("share", [0.0, 1e9], ids=["all are heads", "none is a head"])
def test_picks_and_weights_are_those_of_the_array(
    ray_cluster: str,
    tmp_path: Path,
    layout: tuple[int, int],
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ray_cluster
    monkeypatch.setattr(stratum_picks, "HEAD_SHARE", share)
    ledger = Ledger(Store(), str(tmp_path / "run"))
    with pool_of(tmp_path, *layout) as pool:
        clustering = clustered(pool)
        rows = pool.with_clustering(clustering)
        cases = [(*case, quotas) for case in CASES for quotas in (QuotasConfig(), AXES)]
        for number, (strategy, within, quotas) in enumerate(cases):
            config = configured(strategy, within, quotas)
            seed = derive_seed(SEED, "select")
            settings = Settings.of(config, seed, clustering, include=INCLUDE)
            found = run_strategy(strategy, rows, BUDGET, settings)
            expected, weights = on_array(config)
            assert_same(found, expected)
            assert found.num_included == len(INCLUDE)
            assert found.allocation is not None
            assert expected.allocation is not None
            assert found.allocation.report == expected.allocation.report
            assert found.allocation.rates.tobytes() == expected.allocation.rates.tobytes()
            records = pool.map_shards(
                write_shard_weights,
                ledger,
                f"weights-{number}",
                "inputs",
                clustering.centroids,
                found.allocation,
                frozenset(),
            )
            written = pd.concat(
                pd.read_parquet(ledger.absolute(r["path"])) for r in records if r is not None
            )
            assert written["tile_id"].tolist() == weights.ids.tolist()
            np.testing.assert_array_equal(written["weight"], weights.weight)
