"""Find near-duplicates among embedding shards with Ray tasks.

Shards are read by tasks; rows travel through the object store from shards to buckets of cells.
Only ranks, pairs and counts reach the driver, about 60 bytes per tile. Ray repeats what a lost
worker was doing; every step is a pure function of its inputs, so nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import ray

from balancer.clustering.assignment import assign
from balancer.config_deduplicate import DeduplicateConfig
from balancer.errors import ConfigError, DataError
from balancer.selection.greedy_net import Net, decide
from balancer.selection.near_blocks import Drops, Plan, plan_buckets
from balancer.selection.near_cells import Cells, fit_cells, sample_size
from balancer.selection.near_duplicates import Effort, num_cells_of, reach_of, sort_keys
from balancer.selection.near_misses import MISS_SAMPLE, Misses, merge_misses
from balancer.selection.near_order import INCLUDED, order_rows
from balancer.selection.near_pairs import NearPairs, RankedRows
from balancer.selection.uniform import lowest_hashes
from balancer.stages.near_duplicate_tasks import (
    assemble,
    concatenate_ids,
    count_shard_misses,
    ids_at,
    near_among_step,
    near_kept_step,
    read_order,
    route_shard,
    sample_below,
    scatter,
)
from balancer.stages.resources import plain_errors
from balancer.stages.tasks import run_tasks
from balancer.storage.filesystem import Store
from balancer.storage.tile_lists import NO_LISTS, TileLists
from balancer.types import (
    EmbeddingShard,
    FloatArray,
    IdArray,
    IntArray,
    ShardRef,
    UInt64Array,
)

ROWS_PER_BUCKET = 1 << 17
"""Rows and visits that one bucket holds, about; 64 MiB of 128 dimensions."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """The decisions on all N tiles, and how to name them.

    Attributes:
        net: by rank.
        ranks: one array per shard, the ranks of its tiles.
        order: (N,) tiles of all shards, in the order of the shards, first in the order first.
        effort: what it took.
    """

    net: Net
    ranks: tuple[IntArray, ...]
    order: IntArray
    effort: Effort


class ShardSearch:
    """Tasks over some embedding shards.

    Args:
        store: opens the shards.
        shards: with rows, in catalog order.
        normalize: L2-normalise the rows.
        seed: of the order and the cells; from `order_seed`.
        lists: tiles that come first, and last.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[EmbeddingShard],
        *,
        normalize: bool,
        seed: int,
        lists: TileLists | None = None,
    ) -> None:
        self._store, self._shards, self._normalize, self._seed = store, shards, normalize, seed
        self._lists = lists or NO_LISTS
        self._ends = np.cumsum([shard.num_rows for shard in shards])

    def find(
        self, config: DeduplicateConfig, catalog: Sequence[ShardRef], rows_per_bucket: int
    ) -> Found:
        """Decide every tile.

        Raises:
            ConfigError: a priority that is not a column of numbers.
            DataError: a tile that must be picked is near another one that must be.
            TooManyPairsError: more pairs within the floor than `config.max_pairs`.
        """
        cataloged = {shard.shard_id: shard for shard in catalog}
        read = self._each(
            read_order,
            lambda n: (
                self._seed,
                config.priority,
                cataloged.get(self._shards[n].shard_id),
                self._lists,
            ),
        )
        hashes = np.concatenate([part.hashes for part in read])
        num_cells = num_cells_of(config, len(hashes))
        ids, sample, _ = self._sample(hashes, sample_size(num_cells))
        cells = fit_cells(ids, sample, num_cells, seed=self._seed)
        counts, squared, routes = self._route(cells, reach_of(config))
        priority = (
            np.concatenate([np.empty(0) if p.priority is None else p.priority for p in read])
            if config.priority is not None
            else None
        )
        if priority is not None and np.isnan(priority).all():
            raise ConfigError(
                f"selection.deduplicate.priority must name a metadata column of numbers; no tile "
                f"has a value in {config.priority!r}. Name another column."
            )
        keys = sort_keys(config, squared, priority)
        tiers = np.concatenate([part.tiers for part in read]) if len(self._lists) else None
        order = order_rows(keys, hashes, self.names, tiers)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        of_shards = tuple(np.split(ranks, self._ends[:-1]))
        units = self._units(plan_buckets(counts, rows_per_bucket), of_shards, routes)
        net = decide(units, config)
        if tiers is not None:
            self._require_included(net, order, np.flatnonzero(tiers[order] == INCLUDED))
        misses = None
        if config.ignores_borders:
            misses = self._misses(cells, hashes, config.limit, of_shards, routes)
        replication = float(counts.sum() / len(order))
        return Found(net, of_shards, order, Effort(len(cells), replication, misses))

    def _require_included(self, net: Net, order: IntArray, included: IntArray) -> None:
        """Refuse two near tiles of which both must be picked; `included` are ranks."""
        lost = included[net.by[included] >= 0]
        if len(lost):
            dropped, kept = self.names(order[[lost[0], net.by[lost[0]]]]).tolist()
            raise DataError(
                f"Tiles of selection.include must not be near-duplicates of each other; "
                f"{dropped!r} is one of {kept!r} ({len(lost)} in all). Take one off the list, or "
                f"raise selection.deduplicate.threshold."
            )

    def names(self, rows: IntArray) -> IdArray:
        """Return the ids of some tiles, numbered over all shards in their order."""
        shards = np.searchsorted(self._ends, rows, side="right")
        asked = np.unique(shards).tolist()
        starts = self._ends - [shard.num_rows for shard in self._shards]
        arguments = [(self._store, self._shards[n], rows[shards == n] - starts[n]) for n in asked]
        answers = dict(run_tasks(ids_at, arguments))
        found = concatenate_ids([answers[place] for place in range(len(asked))])
        names = np.empty(len(rows), found.dtype)
        names[np.argsort(shards, kind="stable")] = found
        return names

    def _each(
        self, function: Callable[..., T], rest: Callable[[int], tuple[object, ...]]
    ) -> list[T]:
        """Return `function(store, shard, *rest(number))` of every shard, in their order."""
        arguments = [(self._store, shard, *rest(n)) for n, shard in enumerate(self._shards)]
        answers = dict(run_tasks(function, arguments))
        return [answers[n] for n in range(len(arguments))]

    def _sample(self, hashes: UInt64Array, count: int) -> tuple[IdArray, FloatArray, IntArray]:
        """Return ids, points and numbers of the `count` tiles with the lowest hashes."""
        count = min(count, len(hashes))
        cutoff = np.partition(hashes, count - 1)[count - 1]
        rows = np.flatnonzero(hashes <= cutoff)
        parts = self._each(sample_below, lambda _: (self._normalize, self._seed, cutoff))
        ids = concatenate_ids([part for part, _ in parts])
        points = np.concatenate([part for _, part in parts])
        keep = lowest_hashes(ids, count, seed=self._seed)
        return ids[keep], points[keep], rows[keep]

    def _route(self, cells: Cells, reach: float | None) -> tuple[IntArray, FloatArray, list[Any]]:
        """Return rows and visits per cell, squared distances, and the routes where they lie."""
        shared = ray.put(cells)
        task: Any = ray.remote(route_shard).options(num_cpus=1, num_returns=3)
        with plain_errors():
            answers = [
                task.remote(self._store, shard, self._normalize, shared, reach)
                for shard in self._shards
            ]
            counts: IntArray = np.sum(ray.get([answer[0] for answer in answers]), axis=0)
            squared: FloatArray = np.concatenate(ray.get([answer[1] for answer in answers]))
        return counts, squared, [answer[2] for answer in answers]

    def _units(self, plan: Plan, ranks: Sequence[IntArray], routes: Sequence[Any]) -> RayUnits:
        shared = ray.put(plan)
        task: Any = ray.remote(scatter).options(num_cpus=1, num_returns=plan.num_buckets)
        join: Any = ray.remote(assemble).options(num_cpus=1)
        with plain_errors():
            pieces = [
                task.remote(self._store, shard, self._normalize, part, route, shared)
                for shard, part, route in zip(self._shards, ranks, routes, strict=True)
            ]
            if plan.num_buckets == 1:
                pieces = [[piece] for piece in pieces]
            buckets = [
                join.remote(*(piece[bucket] for piece in pieces))
                for bucket in range(plan.num_buckets)
            ]
        units = [
            [buckets[one]] if other is None else [buckets[one], buckets[other]]
            for one, other in plan.units()
        ]
        return RayUnits(sum(map(len, ranks)), units)

    def _misses(
        self,
        cells: Cells,
        hashes: UInt64Array,
        limit: float,
        ranks: Sequence[IntArray],
        routes: Sequence[Any],
    ) -> Misses:
        _, points, rows = self._sample(hashes, MISS_SAMPLE)
        chosen = RankedRows(points, np.arange(len(points)), np.concatenate(ranks)[rows])
        sample = ray.put((chosen, assign(points, cells.centroids)[0], limit))
        parts = self._each(
            count_shard_misses, lambda n: (self._normalize, ranks[n], routes[n], sample)
        )
        return merge_misses(parts)


@dataclass(frozen=True, slots=True)
class RayUnits:
    """Work units whose buckets lie in Ray's object store. Implements `greedy_net.Units`."""

    num_rows: int
    units: Sequence[Sequence[Any]]

    def near_kept(self, begin: int, end: int, kept: IntArray | None, limit: float) -> list[Drops]:
        """See `balancer.selection.greedy_net.Units`."""
        shared = ray.put(kept)
        return self._run(near_kept_step, (begin, end, shared, limit))

    def near_among(
        self, members: IntArray | None, limit: float, most: int | None
    ) -> list[NearPairs]:
        """See `balancer.selection.greedy_net.Units`."""
        return self._run(near_among_step, (ray.put(members), limit, most))

    def _run(self, step: Callable[..., T], rest: tuple[object, ...]) -> list[T]:
        answers: dict[int, T] = dict(run_tasks(step, [(*rest, *unit) for unit in self.units]))
        return [answers[number] for number in range(len(self.units))]
