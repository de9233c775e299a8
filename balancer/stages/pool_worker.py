"""One worker of a pool: the local steps it runs on its embedding shards.

A plain class: `RayPool` turns it into actors. Everything a method needs comes as an argument or is
rebuilt from the shards, except the farthest-point distances, which are rebuilt from the picks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import PartialSums, Scale, greatest, local_sums, merge_sums
from balancer.imbalance.radius import lower_counts, merge_counts, upper_counts
from balancer.selection.bounds import Options
from balancer.selection.coresets import (
    Coreset,
    CoresetPicks,
    finalize_coreset,
    local_coreset,
    merge_coresets,
)
from balancer.selection.exchange import ExchangeShard, Offer, Picks, nothing_to_offer
from balancer.selection.quality import Quality, squared_weights
from balancer.selection.uniform import lowest_hashes
from balancer.stages.pool_messages import Among, Behind
from balancer.stages.stratum_steps import StratumSteps
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.selections import assignment_table
from balancer.storage.tables import write_table
from balancer.types import FloatArray, IdArray, ShardRows

T = TypeVar("T")


class PoolWorker(StratumSteps):
    """Shards of embeddings, read once and kept, and all steps on them.

    Args:
        store: opens the shards.
        shards: what to hold.
        normalize: L2-normalise the rows.
        metadata: columns that the local steps of `map_shards` see.
        exclude: ids of rows that are dropped as their shard is read.
        compute: what the worker computes with; no result depends on it.

    Memory: the embeddings of the shards, plus 46 bytes per row during farthest-point selection.
    """

    _shard: ExchangeShard | None = None
    _applied = 0
    _nearest: Sequence[FloatArray] = ()

    def extent(self) -> tuple[int, int, float]:
        """Return rows, dimension and greatest absolute coordinate."""
        return (
            sum(len(ids) for ids, _ in self._rows),
            max((points.shape[1] for _, points in self._rows), default=0),
            max((greatest(points) for _, points in self._rows), default=0.0),
        )

    def map_shards(
        self, local: Callable[..., T], arguments: tuple[object, ...]
    ) -> list[tuple[int, T]]:
        """Return `local(rows, *arguments)` of each shard with rows, after its place among all."""
        return [
            (
                place,
                local(ShardRows(ids, points, columns, shard.shard_id, self._device), *arguments),
            )
            for place, shard, (ids, points), columns in zip(
                self._places, self._shards, self._rows, self._columns, strict=True
            )
        ]

    def sample(self, count: int, seed: int) -> tuple[IdArray, FloatArray]:
        """Return ids and vectors of this worker's `count` lowest hashes."""
        if not self._rows:
            return np.empty(0, np.str_), np.empty((0, 0), np.float32)
        parts = [(ids, points, lowest_hashes(ids, count, seed=seed)) for ids, points in self._rows]
        ids = np.concatenate([ids[rows] for ids, _, rows in parts])
        points = np.concatenate([points[rows] for _, points, rows in parts])
        keep = lowest_hashes(ids, count, seed=seed)
        return ids[keep], points[keep]

    def sums(self, centroids: FloatArray, scale: Scale) -> PartialSums | None:
        """Return this worker's merged k-means sums; None when it holds no rows."""
        parts = [
            local_sums(points, ids, centroids, scale, device=self._device)
            for ids, points in self._rows
        ]
        return merge_sums(parts) if parts else None

    def offer(
        self,
        start: int,
        ids: IdArray,
        vectors: FloatArray,
        room: int,
        capacity: int,
        quality: Quality | None = None,
        among: Among | None = None,
    ) -> Offer | Behind:
        """Apply picks number `start`, `start + 1`, ... and offer this worker's farthest rows.

        With `start` 0 the distances begin anew, over all rows or `among` those of one stratum. A
        worker that was restarted answers `Behind`.
        """
        started = time.perf_counter()
        if start == 0:
            self._shard = None  # a device may have no room for the old rows and the new ones
            self._shard = self._start(capacity, quality, among) if self._rows else None
            self._applied = 0
        if self._applied != start:
            return Behind(self._applied)
        self._applied += len(ids)
        if self._shard is None:
            return nothing_to_offer()
        self._shard.apply(ids, vectors)
        offer = self._shard.offer(room)
        return replace(offer, seconds=time.perf_counter() - started)

    def _start(
        self, capacity: int, quality: Quality | None, among: Among | None
    ) -> ExchangeShard | None:
        weights = np.concatenate([squared_weights(part, quality) for part in self._columns])
        ids, points = self._ids, self._points
        if among is not None:
            rows = self._stratum_rows(among.plan, among.key, among.stratum)
            ids, points = ids[rows], points[rows]
            weights = weights[rows] if len(weights) else weights
        if len(ids) == 0:
            return None
        options = Options(weights=weights if len(weights) else None)
        return ExchangeShard(points, ids, capacity, options, self._engine)

    def coresets(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None
    ) -> list[Coreset]:
        """Return the coreset of each of this worker's shards."""
        return [
            local_coreset(
                points,
                ids,
                num_picks,
                epsilon=epsilon,
                seed=seed,
                max_size=limit,
                engine=self._engine,
            )
            for ids, points in self._rows
        ]

    def num_shards(self) -> int:
        """Return how many shards with rows this worker holds."""
        return len(self._rows)

    def pick_from_coresets(
        self, seed: int, included: Picks, *parts: Sequence[Coreset]
    ) -> CoresetPicks:
        """Pick from the union of the coresets that all workers made."""
        merged = merge_coresets([coreset for part in parts for coreset in part])
        return finalize_coreset(merged, seed=seed, included=included, engine=self._engine)

    def vectors(self, wanted: IdArray) -> tuple[IdArray, FloatArray]:
        """Return those of the wanted ids that are here, with their vectors."""
        found = [
            (ids[mine], points[mine])
            for ids, points in self._rows
            if (mine := np.isin(ids, wanted)).any()
        ]
        if not found:
            return np.empty(0, np.str_), np.empty((0, 0), np.float32)
        return np.concatenate([ids for ids, _ in found]), np.concatenate([p for _, p in found])

    def write_assignments(
        self, ledger: Ledger, stage: str, inputs: str, centroids: FloatArray
    ) -> list[Record]:
        """Write the clusters of each shard's rows; return the completion records."""
        records = []
        for shard, (ids, points) in zip(self._shards, self._rows, strict=True):
            labels, squared = assign(points, centroids, device=self._device)
            table = assignment_table(ids, labels, np.sqrt(squared))
            attempt = new_attempt()
            uri = ledger.stage(stage).data_uri(shard.shard_id, attempt, "parquet")
            file = write_table(ledger.store, uri, table)
            records.append(
                ledger.stage(stage).record(
                    shard.shard_id, attempt=attempt, inputs=inputs, file=file
                )
            )
        return records

    def nearest_pick(self, picks: FloatArray) -> Counter[int]:
        """Measure each row's distance to its nearest pick; return the upper-bit counts."""
        self._nearest = [assign(points, picks, device=self._device)[1] for _, points in self._rows]
        return merge_counts(upper_counts(squared) for squared in self._nearest)

    def nearest_pick_detail(self, picks: FloatArray, upper: int) -> Counter[int]:
        """Return the lower-bit counts for one upper half (see `balancer.imbalance.radius`)."""
        if not self._nearest and self._rows:  # restarted in between
            self.nearest_pick(picks)
        return merge_counts(lower_counts(squared, upper) for squared in self._nearest)
