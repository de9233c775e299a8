"""Embed the test tiles that a long-tailed pool set aside, and read a round's embeddings."""

from __future__ import annotations

import numpy as np

from balancer.config import Config
from balancer.distances import l2_normalize
from balancer.errors import ConfigError
from balancer.imbalance.measures import class_name
from balancer.stages.catalog import Catalog
from balancer.stages.catalog_commit import STAGE
from balancer.stages.tasks import run_tasks
from balancer.stages.tile_embedder import TileEmbedder
from balancer.stages.tile_stream import decode_rows
from balancer.storage.embedding_shards import read_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table
from balancer.types import EncoderRef, FloatArray, IdArray, RoundState


def embed_holdout(
    ledger: Ledger, config: Config, encoder: EncoderRef
) -> tuple[IdArray, FloatArray, IdArray]:
    """Return ids, L2-normalised features and labels of the holdout.

    Raises:
        ConfigError: the run has no holdout.
    """
    committed = ledger.read_commit(STAGE) or {}
    if "holdout" not in committed:
        raise ConfigError(
            "The study needs archive.long_tail with a holdout; this run has none. "
            "Set archive.long_tail.holdout."
        )
    held = committed["holdout"]
    [(_, found)] = run_tasks(
        embed_table,
        [
            (
                ledger.store,
                config,
                encoder,
                ledger.absolute(held["path"]),
                held["sha256"],
                committed["label_column"],
            )
        ],
    )
    ids, features, labels = found
    return ids, l2_normalize(features) if config.embedding.normalize else features, labels


def embed_table(
    store: Store, config: Config, encoder: EncoderRef, uri: str, sha256: str, label: str
) -> tuple[IdArray, FloatArray, IdArray]:
    """Embed the readable tiles of one catalog table (runs on a worker)."""
    embed_tiles = TileEmbedder(store, config, encoder)
    table = read_table(store, uri, sha256=sha256)
    size, resize = config.encoder.image_size, config.encoder.resize
    tiles, rows, _ = decode_rows(store, table, None, size, resize)
    features = embed_tiles(tiles)
    ids = np.array(table["tile_id"].to_pylist())[rows]
    return ids, features, np.array([str(class_name(v)) for v in table[label].to_pylist()])[rows]


def read_round(store: Store, state: RoundState, *, normalize: bool) -> tuple[IdArray, FloatArray]:
    """Return ids and (normalised) embeddings of a round, all in memory."""
    parts = [read_embeddings(store, shard) for shard in state.embeddings]
    points = np.concatenate([points for _, points in parts])
    ids = np.concatenate([ids for ids, _ in parts])
    return ids, l2_normalize(points) if normalize else points


def labels_of(store: Store, catalog: Catalog, ids: IdArray) -> IdArray:
    """Return the labels of tiles, as text.

    Raises:
        ConfigError: the catalog has no labels.
    """
    if catalog.label_column is None:
        raise ConfigError("The study needs labels; set archive.label_column.")
    known: dict[str, str] = {}
    for shard in catalog.shards:
        table = read_table(
            store,
            shard.catalog_uri,
            sha256=shard.sha256,
            columns=["tile_id", catalog.label_column],
        )
        values = table[catalog.label_column].to_pylist()
        known.update(
            zip(table["tile_id"].to_pylist(), map(str, map(class_name, values)), strict=True)
        )
    return np.array([known[name] for name in ids.tolist()])
