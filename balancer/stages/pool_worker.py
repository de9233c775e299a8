"""One worker's embedding shards in memory, and the local steps it runs on them.

A plain class: `RayPool` turns it into actors. Everything a method needs comes as an argument or is
rebuilt from the shards, except the farthest-point distances, which are rebuilt from the picks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.lloyd import PartialSums, Scale, greatest, local_sums, merge_sums
from balancer.distances import l2_normalize
from balancer.imbalance.radius import lower_counts, merge_counts, upper_counts
from balancer.seeding import hash_ids
from balancer.selection.bounds import Options
from balancer.selection.coresets import (
    Coreset,
    CoresetPicks,
    finalize_coreset,
    local_coreset,
    merge_coresets,
)
from balancer.selection.exchange import ExchangeShard, Offer, Picks, nothing_to_offer
from balancer.selection.farthest_point import seeded_first
from balancer.selection.medoids import CellSums, Nearest, cell_nearest, cell_sums, voronoi_cells
from balancer.selection.quality import Quality, scaled_quality, squared_weights
from balancer.selection.strata import label_rows
from balancer.selection.stratum_picks import (
    Candidates,
    PickPlan,
    StratumPicks,
    candidates,
    pick_strata,
)
from balancer.selection.uniform import lowest_hashes
from balancer.stages.metadata_columns import Metadata, read_columns
from balancer.stages.pool_messages import Among, Behind, StratumRows
from balancer.storage.embedding_shards import read_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.selections import assignment_table
from balancer.storage.tables import write_table
from balancer.types import (
    EmbeddingShard,
    FloatArray,
    IdArray,
    IntArray,
    ShardRows,
)

T = TypeVar("T")


class PoolWorker:
    """Shards of embeddings, read once and kept.

    Args:
        store: opens the shards.
        shards: what to hold.
        normalize: L2-normalise the rows.
        metadata: columns that the local steps of `map_shards` see.
        exclude: ids of rows that are dropped as their shard is read.
        device: where rows are assigned to centroids; the results do not depend on it.
        num_threads: of compiled loops; those of the process when absent. No result depends on it.

    Memory: the embeddings of the shards, plus 46 bytes per row during farthest-point selection.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[EmbeddingShard],
        *,
        normalize: bool,
        metadata: Metadata | None = None,
        exclude: IdArray | None = None,
        device: str = "cpu",
        num_threads: int | None = None,
    ) -> None:
        if num_threads is not None:
            # Workers of one machine would otherwise each use all of its cores, and wait in turn.
            numba.set_num_threads(min(num_threads, numba.get_num_threads()))
        self._device = device
        columns = () if metadata is None else metadata.columns
        catalog = {} if metadata is None else {s.shard_id: s for s in metadata.catalog}
        self._shards: list[EmbeddingShard] = []
        self._places: list[int] = []
        filled = [shard for shard in shards if shard.num_rows]
        dim = max((shard.dim for shard in filled), default=0)
        # One matrix for all shards, so that a selection sees one array; each shard is a view.
        self._points = np.empty((sum(shard.num_rows for shard in filled), dim), np.float32)
        self._rows: list[tuple[IdArray, FloatArray]] = []
        self._columns: list[dict[str, NDArray[Any]]] = []
        end = 0
        for place, shard in enumerate(filled):
            ids, points = read_embeddings(store, shard)
            if exclude is not None and len(exclude):
                kept = ~np.isin(ids, exclude)
                ids, points = ids[kept], points[kept]
            if len(ids) == 0:
                continue
            self._shards.append(shard)
            self._places.append(place)
            view = self._points[end : end + len(ids)]
            view[:] = l2_normalize(points) if normalize else points
            self._rows.append((ids, view))
            self._columns.append(
                read_columns(store, catalog[shard.shard_id], ids, columns) if columns else {}
            )
            end += len(ids)
        self._points = self._points[:end]
        self._ids = (
            np.concatenate([ids for ids, _ in self._rows]) if self._rows else np.empty(0, np.str_)
        )
        self._shard: ExchangeShard | None = None
        self._applied = 0
        self._nearest: list[FloatArray] = []
        self._labels: tuple[str, IntArray] | None = None

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
            (place, local(ShardRows(ids, points, columns, shard.shard_id), *arguments))
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
        return ExchangeShard(points, ids, capacity, options)

    def coresets(
        self, num_picks: int, epsilon: float | None, seed: int, limit: int | None
    ) -> list[Coreset]:
        """Return the coreset of each of this worker's shards."""
        return [
            local_coreset(points, ids, num_picks, epsilon=epsilon, seed=seed, max_size=limit)
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
        return finalize_coreset(merged, seed=seed, included=included)

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

    def candidates(self, plan: PickPlan, key: str) -> Candidates | None:
        """Return this worker's best rows of every stratum; None when it holds no rows."""
        if not self._rows:
            return None
        return candidates(self._points, self._ids, self._stratum_labels(plan, key), plan)

    def stratum_rows(
        self, plan: PickPlan, key: str, groups: Sequence[IntArray]
    ) -> StratumRows | list[StratumRows]:
        """Return this worker's rows of each group of strata, one result per group."""
        labels = self._stratum_labels(plan, key)
        quality = np.empty(0)
        if plan.quality is not None and self._columns:
            values = [scaled_quality(columns, plan.quality) for columns in self._columns]
            quality = np.concatenate(values)
        results = []
        for group in groups:
            wanted = np.zeros(len(plan.strata) + 1, np.bool_)  # the last is for rows of no stratum
            wanted[group] = True
            rows = np.flatnonzero(wanted[labels])
            results.append(
                StratumRows(
                    labels[rows],
                    self._ids[rows],
                    self._points[rows],
                    quality[rows] if len(quality) else quality,
                )
            )
        return results[0] if len(results) == 1 else results

    def pick_group(self, plan: PickPlan, *parts: StratumRows) -> StratumPicks:
        """Pick in each stratum of one group, from every worker's rows of it."""
        parts = tuple(part for part in parts if len(part.ids))
        return pick_strata(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.labels for part in parts]),
            plan,
            quality=None
            if plan.quality is None
            else np.concatenate([part.quality for part in parts]),
        )

    def stratum_included(
        self, plan: PickPlan, key: str, stratum: int
    ) -> tuple[IdArray, FloatArray] | None:
        """Return ids and vectors of a stratum's rows here that are picked already."""
        ids, points = self._stratum(plan, key, stratum)
        given = np.isin(ids, plan.included)
        return (ids[given], points[given]) if given.any() else None

    def lowest_hash(
        self, plan: PickPlan, key: str, stratum: int
    ) -> tuple[int, str, FloatArray] | None:
        """Return hash, id and vector of this worker's first row of a stratum in random order."""
        ids, points = self._stratum(plan, key, stratum)
        if len(ids) == 0:
            return None
        seed = plan.seed_of(stratum)
        row = seeded_first(ids, seed)
        return int(hash_ids(ids[row : row + 1], seed)[0]), str(ids[row]), points[row]

    def stratum_extent(self, plan: PickPlan, key: str, stratum: int) -> float:
        """Return the greatest absolute coordinate of a stratum's rows here."""
        _, points = self._stratum(plan, key, stratum)
        return float(np.abs(points).max(initial=0.0))

    def cell_sums(
        self,
        plan: PickPlan,
        key: str,
        stratum: int,
        picks: tuple[IdArray, FloatArray],
        exponent: int,
    ) -> CellSums:
        """Add up a stratum's rows here by the Voronoi cells of its picks."""
        ids, points = self._stratum(plan, key, stratum)
        return cell_sums(points, ids, picks[1], picks[0], exponent)[0]

    def cell_nearest(
        self,
        plan: PickPlan,
        key: str,
        stratum: int,
        picks: tuple[IdArray, FloatArray],
        means: FloatArray,
    ) -> Nearest:
        """Return a stratum's rows here that are nearest to the means of the Voronoi cells."""
        ids, points = self._stratum(plan, key, stratum)
        cells = voronoi_cells(points, ids, picks[1], picks[0])
        return cell_nearest(points, ids, cells, means)

    def _stratum_labels(self, plan: PickPlan, key: str) -> IntArray:
        """Return the stratum of each row, kept until another plan's are asked for."""
        if self._labels is None or self._labels[0] != key:
            parts = [
                label_rows(
                    ShardRows(ids, points, columns), assign(points, plan.centroids)[0], plan.strata
                )
                for (ids, points), columns in zip(self._rows, self._columns, strict=True)
            ]
            self._labels = (key, np.concatenate([np.empty(0, np.int64), *parts]))
        return self._labels[1]

    def _stratum(self, plan: PickPlan, key: str, stratum: int) -> tuple[IdArray, FloatArray]:
        rows = self._stratum_rows(plan, key, stratum)
        return self._ids[rows], self._points[rows]

    def _stratum_rows(self, plan: PickPlan, key: str, stratum: int) -> IntArray:
        return np.flatnonzero(self._stratum_labels(plan, key) == stratum)

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
