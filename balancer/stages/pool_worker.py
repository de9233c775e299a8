"""One worker's embedding shards in memory, and the local steps it runs on them.

A plain class: `RayPool` turns it into actors. Everything a method needs comes as an argument or is
rebuilt from the shards, except the farthest-point distances, which are rebuilt from the picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import PartialSums, Scale, local_sums, merge_sums
from balancer.config import Within
from balancer.distances import l2_normalize
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
from balancer.selection.pool import Picked, concatenate_picked, pick_rows, rows_of
from balancer.selection.quality import Quality, scaled_quality, squared_weights
from balancer.selection.uniform import lowest_hashes
from balancer.storage.embedding_shards import read_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.selections import assignment_table
from balancer.storage.tables import read_table, write_table
from balancer.types import (
    DoubleArray,
    EmbeddingShard,
    FloatArray,
    IdArray,
    IntArray,
    ShardRef,
    ShardRows,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Behind:
    """Answer of a worker that lost its state: it has applied only this many picks."""

    num_applied: int


@dataclass(frozen=True, slots=True)
class ClusterRows:
    """The rows of some clusters that one worker holds; `quality` is (0,) without one."""

    labels: IntArray
    ids: IdArray
    points: FloatArray
    quality: DoubleArray


class PoolWorker:
    """Shards of embeddings, read once and kept.

    Args:
        store: opens the shards.
        shards: what to hold.
        normalize: L2-normalise the rows.
        catalog: the cataloged shards by id, when `columns` are wanted.
        columns: names of metadata columns for the local steps of `map_shards`.
        exclude: ids of rows that are dropped as their shard is read.

    Memory: the embeddings of the shards, plus 46 bytes per row during farthest-point selection.
    """

    def __init__(
        self,
        store: Store,
        shards: Sequence[EmbeddingShard],
        *,
        normalize: bool,
        catalog: Mapping[str, ShardRef] | None = None,
        columns: Sequence[str] = (),
        exclude: IdArray | None = None,
    ) -> None:
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
                read_columns(store, catalog[shard.shard_id], ids, columns)
                if catalog is not None and columns
                else {}
            )
            end += len(ids)
        self._points = self._points[:end]
        self._ids = (
            np.concatenate([ids for ids, _ in self._rows]) if self._rows else np.empty(0, np.str_)
        )
        self._shard: ExchangeShard | None = None
        self._applied = 0
        self._nearest: list[FloatArray] = []

    def extent(self) -> tuple[int, int, float]:
        """Return rows, dimension and greatest absolute coordinate."""
        return (
            sum(len(ids) for ids, _ in self._rows),
            max((points.shape[1] for _, points in self._rows), default=0),
            max((float(np.abs(points).max()) for _, points in self._rows), default=0.0),
        )

    def map_shards(
        self, local: Callable[..., T], arguments: tuple[object, ...]
    ) -> list[tuple[int, T]]:
        """Return `local(rows, *arguments)` of each shard with rows, after its place among all."""
        return [
            (place, local(ShardRows(ids, points, columns), *arguments))
            for place, (ids, points), columns in zip(
                self._places, self._rows, self._columns, strict=True
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
        parts = [local_sums(points, ids, centroids, scale) for ids, points in self._rows]
        return merge_sums(parts) if parts else None

    def offer(
        self,
        start: int,
        ids: IdArray,
        vectors: FloatArray,
        room: int,
        capacity: int,
        quality: Quality | None = None,
    ) -> Offer | Behind:
        """Apply picks number `start`, `start + 1`, ... and offer this worker's farthest rows.

        With `start` 0 the distances begin anew. A worker that was restarted answers `Behind`.
        """
        if start == 0:
            self._shard = self._start(capacity, quality) if self._rows else None
            self._applied = 0
        if self._applied != start:
            return Behind(self._applied)
        self._applied += len(ids)
        if self._shard is None:
            return nothing_to_offer()
        self._shard.apply(ids, vectors)
        return self._shard.offer(room)

    def _start(self, capacity: int, quality: Quality | None) -> ExchangeShard:
        weights = np.concatenate([squared_weights(part, quality) for part in self._columns])
        options = Options(weights=weights if len(weights) else None)
        return ExchangeShard(self._points, self._ids, capacity, options)

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

    def cluster_rows(
        self, centroids: FloatArray, groups: Sequence[IntArray], quality: Quality | None = None
    ) -> ClusterRows | list[ClusterRows]:
        """Return this worker's rows of each group of clusters, one result per group."""
        labels = [assign(points, centroids)[0] for _, points in self._rows]
        values = (
            []
            if quality is None
            else [scaled_quality(columns, quality) for columns in self._columns]
        )
        results = []
        for group in groups:
            chosen = [np.isin(part, group) for part in labels]
            results.append(
                ClusterRows(
                    np.concatenate([part[c] for part, c in zip(labels, chosen, strict=True)])
                    if labels
                    else np.empty(0, np.int64),
                    np.concatenate([ids[c] for (ids, _), c in zip(self._rows, chosen, strict=True)])
                    if labels
                    else np.empty(0, np.str_),
                    np.concatenate([p[c] for (_, p), c in zip(self._rows, chosen, strict=True)])
                    if labels
                    else np.empty((0, centroids.shape[1]), np.float32),
                    np.concatenate([part[c] for part, c in zip(values, chosen, strict=True)])
                    if values
                    else np.empty(0),
                )
            )
        return results[0] if len(results) == 1 else results

    def pick_group(
        self,
        centroids: FloatArray,
        counts: IntArray,
        rule: Within,
        seed: int,
        included: IdArray | None,
        *parts: ClusterRows,
    ) -> Picked:
        """Pick `counts[k]` rows of each cluster k of one group, from every worker's rows of it."""
        quality = np.concatenate([part.quality for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        ids = np.concatenate([part.ids for part in parts])
        points = np.concatenate([part.points for part in parts])
        picked = []
        for cluster in np.unique(labels):
            rows = np.flatnonzero(labels == cluster)
            picked.append(
                pick_rows(
                    np.ascontiguousarray(points[rows]),
                    ids[rows],
                    int(counts[cluster]),
                    rule=rule,
                    cluster=int(cluster),
                    centroid=centroids[cluster],
                    seed=seed,
                    included=included,
                    quality=quality[rows] if len(quality) else None,
                )
            )
        return concatenate_picked(picked)

    def write_assignments(
        self, ledger: Ledger, stage: str, inputs: str, centroids: FloatArray
    ) -> list[Record]:
        """Write the clusters of each shard's rows; return the completion records."""
        records = []
        for shard, (ids, points) in zip(self._shards, self._rows, strict=True):
            labels, squared = assign(points, centroids)
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
        self._nearest = [assign(points, picks)[1] for _, points in self._rows]
        return merge_counts(upper_counts(squared) for squared in self._nearest)

    def nearest_pick_detail(self, picks: FloatArray, upper: int) -> Counter[int]:
        """Return the lower-bit counts for one upper half (see `balancer.imbalance.radius`)."""
        if not self._nearest and self._rows:  # restarted in between
            self.nearest_pick(picks)
        return merge_counts(lower_counts(squared, upper) for squared in self._nearest)


def read_columns(
    store: Store, shard: ShardRef, ids: IdArray, names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return metadata columns of one shard in the order of `ids`.

    A column that this shard does not have is all None. Numbers come as float64 with NaN for a
    missing value, everything else as objects.
    """
    table = read_table(store, shard.catalog_uri, sha256=shard.sha256)
    rows = rows_of(np.array(table["tile_id"].to_pylist()), ids)
    found: dict[str, NDArray[Any]] = {}
    for name in names:
        if name not in table.column_names:
            found[name] = np.full(len(ids), None, dtype=object)
            continue
        values = table[name].to_pylist()
        numeric = all(v is None or type(v) in (int, float) for v in values)
        if numeric:
            values = [np.nan if v is None else v for v in values]
        found[name] = np.array(values, dtype=np.float64 if numeric else object)[rows]
    return found
