"""Embed every tile with Ray Data: fetch, decode and forward in one actor, one shard at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from balancer.config import Config, digest_json
from balancer.errors import DataError, UnreadableTileError
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.resources import available_cpus, available_gpus, gpus_per_worker, plain_errors
from balancer.stages.tile_embedder import TileEmbedder
from balancer.stages.tile_stream import decode_rows
from balancer.storage.embedding_shards import write_embeddings
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.tables import FileRecord, read_table, write_table
from balancer.storage.tile_shards import QUARANTINE_SCHEMA
from balancer.types import EmbeddingShard, EncoderRef, FloatArray, IntArray, ShardRef

EMBED = "embed"
PART_TILES = 2048
"""Tiles that are decoded at once: 300 MiB at 224 pixels."""
NOT_FINITE = UnreadableTileError(
    "embedding-not-finite", "the encoder gave NaN, infinity or all zeros for this tile"
)


class ShardEmbedder:
    """Embeds whole shards; Ray Data keeps one instance per actor.

    Args:
        ledger: of the run.
        stage: name of the stage, such as `round-000/embed`.
        encoder: to load.
        config: of the run.
        inputs: fingerprint for the completion records.
    """

    def __init__(
        self, ledger: Ledger, stage: str, encoder: EncoderRef, config: Config, inputs: str
    ) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        self._ledger, self._stage = ledger, ledger.stage(stage)
        self._config, self._encoder, self._inputs = config, encoder, inputs
        self._embed_tiles = TileEmbedder(ledger.store, config, encoder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Embed the shards of a batch (of one); return how many tiles were done."""
        shards = [ShardRef(**shard) for shard in batch["shard"]]
        return {"rows": np.array([self._embed(shard)["rows"] for shard in shards])}

    def _embed(self, shard: ShardRef) -> Record:
        store = self._ledger.store
        table = read_table(store, shard.catalog_uri, sha256=shard.sha256)
        vectors, rows, bad = self._vectors(table)
        sound = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        bad += [(int(row), NOT_FINITE) for row in rows[~sound]]
        ids = table["tile_id"].take(pa.array(rows[sound])).to_pylist()
        attempt = new_attempt()
        written = write_embeddings(
            store,
            self._stage.data_uri(shard.shard_id, attempt, "parquet"),
            shard_id=shard.shard_id,
            tile_ids=ids,
            embeddings=vectors[sound],
            encoder_fingerprint=self._encoder.fingerprint,
        )
        return self._stage.record(
            shard.shard_id,
            attempt=attempt,
            inputs=self._inputs,
            file=FileRecord(
                written.uri, written.num_rows, store.info(written.uri).num_bytes, written.sha256
            ),
            dim=written.dim,
            quarantine=self._quarantine(shard.shard_id, attempt, table, bad),
        )

    def _vectors(
        self, table: pa.Table
    ) -> tuple[FloatArray, IntArray, list[tuple[int, UnreadableTileError]]]:
        """Embed a shard in parts, so that a tar of a whole archive fits into memory too."""
        batch = self._config.embedding.batch_size
        part = -(-PART_TILES // batch) * batch
        vectors, rows, bad = [], [], []
        for start in range(0, table.num_rows, part):
            wanted = np.arange(start, min(start + part, table.num_rows))
            encoder = self._config.encoder
            tiles, found, failed = decode_rows(
                self._ledger.store, table, wanted, encoder.image_size, encoder.resize
            )
            vectors.append(self._embed_tiles(tiles))
            rows.append(found)
            bad += failed
        return np.concatenate(vectors), np.concatenate(rows), bad

    def _quarantine(
        self, key: str, attempt: str, table: pa.Table, bad: list[tuple[int, UnreadableTileError]]
    ) -> dict[str, Any] | None:
        if not bad:
            return None
        rows = []
        for row, error in sorted(bad, key=lambda item: item[0]):
            place = table.slice(row, 1).select(["tile_id", "uri", "member", "num_bytes"])
            rows.append(place.to_pylist()[0] | {"reason": error.reason, "detail": error.detail})
        uri = self._stage.data_uri(f"{key}-quarantine", attempt, "parquet")
        listed = pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)
        file = write_table(self._ledger.store, uri, listed)
        return {
            "path": self._ledger.relative(uri),
            "sha256": file.sha256,
            "rows": len(rows),
            "example": f"{rows[0]['tile_id']}: {rows[0]['reason']}, {rows[0]['detail']}",
        }


def embed_archive(
    context: RunContext, catalog: Catalog, encoder: EncoderRef, round_index: int
) -> tuple[tuple[EmbeddingShard, ...], list[dict[str, Any]]]:
    """Embed every cataloged tile that has no completion record yet.

    Args:
        context: of the run.
        catalog: what to embed.
        encoder: with what.
        round_index: whose folder the embeddings go to.

    Returns:
        One reference per shard that has embeddings, in catalog order, and the quarantine tables
        of tiles that could not be embedded, `path, sha256, rows` each.

    Raises:
        DataError: too many tiles that cannot be embedded.
    """
    name = f"{context.round_name(round_index)}/{EMBED}"
    stage = context.ledger.stage(name)
    inputs = digest_json([catalog.fingerprint, encoder.fingerprint])
    done = stage.completed_all(inputs)
    missing = [shard for shard in catalog.shards if shard.shard_id not in done]
    if missing:
        tiles = {shard.shard_id: shard.num_tiles for shard in catalog.shards}
        with context.reporter.task(f"embed round {round_index}", catalog.num_tiles, "tiles") as go:
            go(sum(tiles[key] for key in done), "")
            for rows in _embed_missing(context, name, encoder, inputs, missing):
                go(rows, "")
        done = stage.completed_all(inputs)
    _check_bad(context, catalog, done)
    shards = tuple(
        EmbeddingShard(
            shard_id=shard.shard_id,
            uri=stage.file(done[shard.shard_id]).uri,
            num_rows=done[shard.shard_id]["rows"],
            dim=done[shard.shard_id]["dim"],
            encoder_fingerprint=encoder.fingerprint,
            sha256=done[shard.shard_id]["sha256"],
        )
        for shard in catalog.shards
        if done[shard.shard_id]["rows"]
    )
    quarantine = [done[shard.shard_id]["quarantine"] for shard in catalog.shards]
    return shards, [
        {key: table[key] for key in ("path", "sha256", "rows")} for table in quarantine if table
    ]


def _embed_missing(
    context: RunContext,
    stage: str,
    encoder: EncoderRef,
    inputs: str,
    missing: Sequence[ShardRef],
) -> Iterator[int]:
    config = context.config
    gpus = gpus_per_worker(config.ray)
    most = config.embedding.num_workers or max(
        1, available_cpus() // config.embedding.cpus_per_worker
    )
    if gpus:
        most = min(most, available_gpus())
    items = [{"shard": asdict(shard)} for shard in missing]
    with plain_errors():
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            ShardEmbedder,
            fn_constructor_args=(context.ledger, stage, encoder, config, inputs),
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=min(most, len(items))),
            num_cpus=config.embedding.cpus_per_worker,
            num_gpus=gpus,
        )
        for row in dataset.iter_rows():
            yield int(row["rows"])


def _check_bad(context: RunContext, catalog: Catalog, done: dict[str, Record]) -> None:
    found = [record["quarantine"] for record in done.values() if record["quarantine"]]
    bad = sum(entry["rows"] for entry in found)
    limit = context.config.archive.max_bad_fraction
    if bad > limit * catalog.num_tiles or bad == catalog.num_tiles:
        raise DataError(
            f"At most {limit:.2%} of the tiles may fail to embed (archive.max_bad_fraction); got "
            f"{bad} of {catalog.num_tiles}, for example {found[0]['example']}. "
            f"Check the encoder and the archive, or raise archive.max_bad_fraction."
        )
