"""What workers do to find near-duplicates: read a shard's order, route, scatter and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.distances import l2_normalize
from balancer.errors import ConfigError, DataError
from balancer.seeding import hash_ids
from balancer.selection.near_blocks import (
    Bucket,
    Drops,
    Plan,
    make_bucket,
    near_among,
    near_kept,
)
from balancer.selection.near_cells import Cells, Routes, route
from balancer.selection.near_misses import Misses, count_misses
from balancer.selection.near_order import tiers_of
from balancer.selection.near_pairs import NearPairs, RankedRows, TooManyPairsError
from balancer.stages.metadata_columns import read_columns
from balancer.storage.embedding_shards import read_embeddings, write_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.near_duplicate_tables import (
    Neighbours,
    pair_table,
    tile_table,
    write_near_table,
)
from balancer.storage.tables import FileRecord, read_table
from balancer.storage.tile_lists import TileLists
from balancer.storage.tile_metadata import NEAR_COLUMN
from balancer.types import (
    DoubleArray,
    EmbeddingShard,
    FloatArray,
    IdArray,
    IntArray,
    ShardRef,
    UInt64Array,
)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The decisions on the N tiles of one shard, with the names of other tiles.

    Attributes:
        order: (N,) place of each in the order.
        kept_by: (N,) empty where the tile is kept.
        nearest: of each tile.
        num_near: (N,) tiles dropped for this one.
        pairs: the pairs whose later tile is of this shard; None without a floor.
    """

    order: IntArray
    kept_by: IdArray
    nearest: Neighbours
    num_near: IntArray
    pairs: tuple[IdArray, IdArray, FloatArray] | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that one shard sends to one bucket: (n, D) points, and as in `Bucket`."""

    points: FloatArray
    ranks: IntArray
    cells: IntArray
    home: np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class OrderParts:
    """What decides the order of one shard's N tiles: hashes, priorities if any, and tiers."""

    hashes: UInt64Array
    priority: DoubleArray | None
    tiers: IntArray


def read_order(
    store: Store,
    shard: EmbeddingShard,
    seed: int,
    priority: str | None,
    cataloged: ShardRef | None,
    lists: TileLists,
) -> OrderParts:
    """Return what decides the order of a shard's tiles.

    Raises:
        ConfigError: the priority is not a column of numbers.
    """
    ids = read_ids(store, shard)
    hashes, tiers = hash_ids(ids, seed), tiers_of(ids, lists.include, lists.exclude)
    if priority is None or cataloged is None:
        return OrderParts(hashes, None, tiers)
    values = read_columns(store, cataloged, ids, [priority])[priority]
    if values.dtype == object:
        if any(value is not None for value in values):
            raise ConfigError(
                f"selection.deduplicate.priority must name a metadata column of numbers; "
                f"{priority!r} holds other values in {cataloged.source_uri}. Name another column."
            )
        values = np.full(len(ids), np.nan)
    return OrderParts(hashes, values.astype(np.float64), tiers)


def read_ids(store: Store, shard: EmbeddingShard) -> IdArray:
    """Return the tile ids of a shard."""
    table = read_table(store, shard.uri, sha256=shard.sha256, columns=["tile_id"])
    return np.array(table["tile_id"].to_pylist(), dtype=np.str_)


def ids_at(store: Store, shard: EmbeddingShard, rows: IntArray) -> IdArray:
    """Return the ids of some rows of a shard."""
    return read_ids(store, shard)[rows]


def sample_below(
    store: Store, shard: EmbeddingShard, normalize: bool, seed: int, cutoff: np.uint64
) -> tuple[IdArray, FloatArray]:
    """Return ids and points of the tiles whose hash does not exceed `cutoff`."""
    ids, points = _read(store, shard, normalize)
    rows = np.flatnonzero(hash_ids(ids, seed) <= cutoff)
    return ids[rows], points[rows]


def route_shard(
    store: Store, shard: EmbeddingShard, normalize: bool, cells: Cells, reach: float | None
) -> tuple[IntArray, FloatArray, Routes]:
    """Return rows and visits per cell, squared distances to the centroids, and the routes."""
    routes = route(_read(store, shard, normalize)[1], cells, reach)
    going = np.concatenate([routes.home, routes.visited])
    counts = np.bincount(going, minlength=len(cells)).astype(np.int64)
    return counts, routes.squared, routes


def scatter(
    store: Store,
    shard: EmbeddingShard,
    normalize: bool,
    ranks: IntArray,
    routes: Routes,
    plan: Plan,
) -> list[Piece] | Piece:
    """Return what a shard sends to each bucket; the piece itself when there is one bucket."""
    points = _read(store, shard, normalize)[1]
    rows = np.concatenate([np.arange(len(points)), routes.visitors])
    cells = np.concatenate([routes.home, routes.visited])
    home = np.arange(len(rows)) < len(points)
    buckets = plan.bucket_of(cells, ranks[rows])
    order = np.argsort(buckets, kind="stable")
    ends = np.searchsorted(buckets[order], np.arange(plan.num_buckets + 1))
    pieces = []
    for bucket in range(plan.num_buckets):
        mine = order[ends[bucket] : ends[bucket + 1]]
        own = rows[mine]
        pieces.append(Piece(points[own], ranks[own], cells[mine], home[mine]))
    return pieces[0] if len(pieces) == 1 else pieces


def assemble(*pieces: Piece) -> Bucket:
    """Join the pieces of all shards."""
    ranks = np.concatenate([piece.ranks for piece in pieces])
    return make_bucket(
        np.concatenate([piece.points for piece in pieces]),
        np.arange(len(ranks)),
        ranks,
        np.concatenate([piece.cells for piece in pieces]),
        np.concatenate([piece.home for piece in pieces]),
    )


def near_kept_step(
    begin: int, end: int, kept: IntArray | None, limit: float, *unit: Bucket
) -> Drops:
    """Run `near_kept` on the buckets of a unit."""
    return near_kept(unit, begin, end, kept, limit)


def near_among_step(
    members: IntArray | None, limit: float, most: int | None, *unit: Bucket
) -> NearPairs:
    """Run `near_among` on the buckets of a unit."""
    try:
        return near_among(unit, members, limit, most)
    except TooManyPairsError as error:
        raise too_many(most) from error


def too_many(most: int | None) -> DataError:
    """Return the error for more pairs than are allowed for."""
    return DataError(
        f"The pairs down to selection.deduplicate.floor (--floor) must be at most max_pairs "
        f"({most}); there are more. Raise the floor, or leave it out: then no pairs are listed and "
        f"the threshold cannot be changed later."
    )


def count_shard_misses(
    store: Store,
    shard: EmbeddingShard,
    normalize: bool,
    ranks: IntArray,
    routes: Routes,
    sample: tuple[RankedRows, IntArray, float],
) -> Misses:
    """Count the near pairs that sampled tiles have with this shard's, and those missed."""
    points = _read(store, shard, normalize)[1]
    rows = RankedRows(points, np.arange(len(points)), ranks)
    chosen, home, limit = sample
    return count_misses(chosen, home, rows, routes.home, limit)


def write_shard(
    ledger: Ledger,
    stage: str,
    inputs: str,
    shard: EmbeddingShard,
    verdicts: Verdicts,
    facts: Mapping[str, Any],
) -> Record:
    """Write the embeddings of the kept tiles and the tables; return the completion record."""
    store, records = ledger.store, ledger.stage(stage)
    ids, points = read_embeddings(store, shard)
    kept = verdicts.kept_by == ""
    attempt = new_attempt()
    by_similarity = facts["threshold"] is not None
    tables: dict[str, Any] = {
        "tiles": tile_table(
            ids, verdicts.order, verdicts.kept_by, verdicts.nearest, verdicts.num_near,
            by_similarity=by_similarity,
        )
    }  # fmt: skip
    if verdicts.pairs is not None:
        tables["pairs"] = pair_table(*verdicts.pairs)
    named = {}
    for name, table in tables.items():
        uri = records.data_uri(f"{shard.shard_id}-{name}", attempt, "parquet")
        file = write_near_table(store, uri, table, facts)
        named[name] = {
            "path": ledger.relative(uri),
            "sha256": file.sha256,
            "rows": file.num_rows,
        }
    written = write_embeddings(
        store,
        records.data_uri(shard.shard_id, attempt, "parquet"),
        shard_id=shard.shard_id,
        tile_ids=ids[kept],
        embeddings=points[kept],
        encoder_fingerprint=shard.encoder_fingerprint,
    )
    size = store.info(written.uri).num_bytes
    return records.record(
        shard.shard_id,
        attempt=attempt,
        inputs=inputs,
        file=FileRecord(written.uri, written.num_rows, size, written.sha256),
        dim=written.dim,
        input_rows=len(ids),
        tables=named,
        facts=dict(facts),
    )


def counts_in_shard(
    ledger: Ledger, table: Mapping[str, Any], wanted: IdArray
) -> tuple[IdArray, IntArray]:
    """Return which of the wanted tiles are in a shard's table, with `num_near_duplicates`."""
    read = read_table(
        ledger.store,
        ledger.absolute(table["path"]),
        sha256=table["sha256"],
        columns=["tile_id", NEAR_COLUMN],
    )
    ids = np.array(read["tile_id"].to_pylist(), dtype=np.str_)
    mine = np.isin(ids, wanted)
    return ids[mine], read[NEAR_COLUMN].to_numpy()[mine]


def concatenate_ids(parts: Sequence[IdArray]) -> IdArray:
    """Join ids; none from no parts."""
    return np.concatenate(parts) if parts else np.empty(0, np.str_)


def _read(store: Store, shard: EmbeddingShard, normalize: bool) -> tuple[IdArray, FloatArray]:
    ids, points = read_embeddings(store, shard)
    return ids, l2_normalize(points) if normalize else points
