"""Selection over shards: picks per round trip, and what the trips cost, on real Ray.

pytest tests/benchmarks -m "" -s -k ray
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from balancer.selection.exchange import ExchangeShard, ExchangeStats, Offer, Picks, room_for
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.selection.pool import run_farthest
from balancer.stages.pool import RayPool
from balancer.stages.pool_worker import PoolWorker
from balancer.storage.embedding_shards import write_embeddings
from balancer.storage.filesystem import Store
from balancer.types import EmbeddingShard, FloatArray, IdArray, IntArray
from tests.benchmarks.measuring import PAIRS, alternate, print_table, scaled
from tests.benchmarks.selection_data import DIM, NAMES, make, zipf_clusters

ROWS, PICKS = scaled(200_000, 500), scaled(2000, 20)
MORE_ROWS = scaled(2_000_000, 1000)
"""As many per worker as a run has: below, a trip's latency weighs more than its work."""
NUM_SHARDS = 8

pytestmark = [pytest.mark.ray, pytest.mark.timeout(3600)]


def deal_rows(count: int) -> list[IntArray]:
    """Deal rows to shards at random: a shard of one region would make all others wait."""
    return np.array_split(np.random.default_rng(1).permutation(count), NUM_SHARDS)


def write_shards(folder: Path, points: FloatArray, ids: IdArray) -> list[EmbeddingShard]:
    return [
        write_embeddings(
            Store(),
            str(folder / f"{number}.parquet"),
            shard_id=f"shard{number}",
            tile_ids=ids[rows],
            embeddings=points[rows],
            encoder_fingerprint="encoder",
        )
        for number, rows in enumerate(deal_rows(len(ids)))
    ]


@contextmanager
def open_workers(shards: Sequence[EmbeddingShard], count: int) -> Iterator[RayPool]:
    """Open a pool of `count` workers that share the machine's cores."""
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    actor: Any = ray.remote(PoolWorker).options(
        num_cpus=0, runtime_env={"env_vars": {"NUMBA_NUM_THREADS": str(threads)}}
    )
    workers = [
        actor.remote(Store(), list(shards[number::count]), normalize=False)
        for number in range(count)
    ]
    try:
        yield RayPool(workers)
    finally:
        for worker in workers:
            ray.kill(worker)


@pytest.mark.parametrize("count_rows", [ROWS, MORE_ROWS])
def test_ray_workers(ray_cluster: str, tmp_path: Path, count_rows: int) -> None:
    assert ray_cluster
    points, ids = zipf_clusters(count_rows), row_ids(count_rows)
    shards = write_shards(tmp_path, points, ids)
    given = Picks(ids[:1], points[:1], np.empty(0, np.float32))
    rows = []

    def one_process() -> IdArray:
        return ids[farthest_point(points, PICKS, first=0, ids=ids).indices[1:]]

    for count in (1, 2, 4):
        with open_workers(shards, count) as pool:
            trips: list[ExchangeStats] = []

            def over_workers(pool: RayPool = pool, trips: list[ExchangeStats] = trips) -> IdArray:
                found = pool.farthest(PICKS - 1, given).picks.ids
                trips.append(pool.last_exchange)
                return found

            alone, spread = alternate([one_process, over_workers])
            np.testing.assert_array_equal(alone.result, spread.result)
            latency = float(np.median([stats.latency_share for stats in trips[1:]]))
            rows.append(
                [
                    count,
                    trips[-1].round_trips,
                    trips[-1].picks_per_trip,
                    f"{latency:.1%}",
                    spread.wall_s,
                    alone.wall_s,
                    f"x{alone.wall_s / spread.wall_s:.2f}",
                ]
            )
    print_table(
        f"Ray workers, Zipf clusters, {count_rows} x {DIM} in {NUM_SHARDS} files, n = {PICKS}, "
        f"medians of {PAIRS} pairs, the same picks",
        [
            "workers",
            "round trips",
            "picks per trip",
            "latency share",
            "wall s",
            "one process, wall s",
            "speed-up",
        ],
        rows,
    )


@pytest.mark.parametrize("name", NAMES)
def test_ray_round_trips_of_eight_shards(name: str) -> None:
    """In this process, one shard after another: the trips are those of eight workers."""
    points, ids = make(name, ROWS), row_ids(ROWS)
    room = room_for(DIM, ids.dtype.itemsize)
    shards = [ExchangeShard(points[rows], ids[rows], PICKS + 1) for rows in deal_rows(ROWS)]
    for shard in shards:
        shard.apply(ids[:1], points[:1])

    def ask(new: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
        for shard in shards:
            shard.apply(new, vectors)
        return [shard.offer(room) for shard in shards]

    stats = ExchangeStats()
    found = run_farthest(ask, PICKS - 1, dim=DIM, room=room, stats=stats)
    expected = farthest_point(points, PICKS, first=0, ids=ids)
    np.testing.assert_array_equal(found.picks.ids, ids[expected.indices[1:]])
    print_table(
        f"{NUM_SHARDS} shards in one process, {name}, {ROWS} x {DIM}, n = {PICKS}",
        ["rows per reply", "round trips", "picks per trip", "slowest shards, s"],
        [[room, stats.round_trips, stats.picks_per_trip, stats.slowest]],
    )
