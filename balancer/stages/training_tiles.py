"""Which tiles an encoder is trained on, and on which its health is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balancer.seeding import derive_seed, hash_ids
from balancer.selection.uniform import lowest_hashes
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.tasks import run_tasks
from balancer.stages.tile_stream import TileGroup
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import IntArray, Manifest, ShardRef, UInt64Array

MANIFEST_GROUP = 1024
"""Tiles of a manifest that a training worker reads at once."""


def training_groups(
    context: RunContext, catalog: Catalog, manifest: Manifest | None
) -> tuple[TileGroup, ...]:
    """Return the tiles of the manifest, or else of the archive or a random sample of it."""
    if manifest is not None:
        table = read_table(context.store, manifest.uri, sha256=manifest.sha256)
        order = np.lexsort((table["offset"].to_numpy(), np.array(table["uri"].to_pylist())))
        pieces = np.array_split(order, max(1, -(-len(order) // MANIFEST_GROUP)))
        return tuple(TileGroup(manifest.uri, manifest.sha256, piece) for piece in pieces)
    seed = derive_seed(context.config.seed, "training-sample")
    return sample_groups(context.store, catalog.shards, context.config.training.sample, seed)


def sample_groups(
    store: Store, shards: Sequence[ShardRef], count: int | None, seed: int
) -> tuple[TileGroup, ...]:
    """Return the `count` tiles with the lowest hashes, the same for any sharding, by shard."""
    if count is None or count >= sum(shard.num_tiles for shard in shards):
        whole = [np.arange(shard.num_tiles) for shard in shards]
    else:
        parts = dict(run_tasks(lowest_in_shard, [(store, s, count, seed) for s in shards]))
        limit = np.sort(np.concatenate([hashes for _, hashes in parts.values()]))[count - 1]
        whole = [
            np.sort(rows[hashes <= limit]) for rows, hashes in (parts[n] for n in sorted(parts))
        ]
    return tuple(
        TileGroup(shard.catalog_uri, shard.sha256, rows)
        for shard, rows in zip(shards, whole, strict=True)
        if len(rows)
    )


def lowest_in_shard(
    store: Store, shard: ShardRef, count: int, seed: int
) -> tuple[IntArray, UInt64Array]:
    """Return rows and hashes of a shard's `count` lowest hashes (runs on a worker)."""
    table = read_table(store, shard.catalog_uri, sha256=shard.sha256, columns=["tile_id"])
    ids = np.array(table["tile_id"].to_pylist())
    rows = lowest_hashes(ids, count, seed=seed)
    return rows, hash_ids(ids[rows], seed)
