"""Train the round's encoder under Ray Train, or take a frozen one; check its health."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from balancer.config import Config, digest_json
from balancer.embedding.health import measure_health
from balancer.embedding.transforms import OverheadViews
from balancer.errors import DataError
from balancer.seeding import child_generator, derive_seed, hash_ids
from balancer.selection.uniform import lowest_hashes
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.encoders import (
    build_initial,
    frozen_fingerprint,
    load_trained,
    set_threads,
    worker_device,
)
from balancer.stages.resources import gpus_per_worker
from balancer.stages.tasks import run_tasks
from balancer.stages.tile_stream import TileGroup, decode_rows, split_groups
from balancer.stages.train_worker import (
    ProgressBoard,
    TrainingJob,
    backbone_arrays,
    train_worker,
)
from balancer.storage.checkpoints import save_encoder
from balancer.storage.filesystem import Store
from balancer.storage.ledger import new_attempt
from balancer.storage.tables import FileRecord, read_table
from balancer.types import EncoderRef, IntArray, Manifest, ShardRef, UInt64Array

TRAIN = "train"
KEY = "encoder"
MAX_FAILURES = 3
"""Times a training worker may die and resume from the last checkpoint."""
HEALTH_TILES = 1024
"""Sample on which the embedding's health is measured."""
HEALTH_SHARDS = 16
MANIFEST_GROUP = 1024
"""Tiles of a manifest that a training worker reads at once."""
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """The round's encoder with what its training showed.

    Attributes:
        encoder: reference to the stored encoder.
        history: per epoch `epoch`, `loss`, `spread`, `seconds`; empty for a frozen encoder.
        health: label-free measures, see `balancer.embedding.health`.
        warnings: sentences about the health; empty when it is good.
    """

    encoder: EncoderRef
    history: tuple[Mapping[str, float], ...]
    health: Mapping[str, float]
    warnings: tuple[str, ...]


def train_encoder(
    context: RunContext,
    catalog: Catalog,
    round_index: int,
    *,
    previous: EncoderRef | None = None,
    manifest: Manifest | None = None,
) -> TrainedEncoder:
    """Return the encoder of a round, training it unless it is recorded or frozen.

    Args:
        context: of the run.
        catalog: the archive; round 0 trains on it, or on a random sample of it.
        round_index: from 0.
        previous: encoder of the round before.
        manifest: selection of the round before, which this round trains on.

    Raises:
        ConfigError: a network or weights that cannot be built, or a loss that is not finite.
        DataError: no tiles to train on.
    """
    config = context.config
    frozen = config.encoder.kind == "frozen"
    start = previous if config.training.start == "previous" and not frozen else None
    inputs = digest_json(
        [
            config.encoder.model_dump(mode="json"),
            None
            if frozen
            else config.training.model_dump(mode="json", exclude={"checkpoint_every"}),
            config.seed,
            None if frozen else round_index,
            manifest.selection_fingerprint if manifest and not frozen else catalog.fingerprint,
            start.fingerprint if start else None,
        ]
    )
    stage = context.ledger.stage(f"{context.round_name(round_index)}/{TRAIN}")
    record = stage.completed(KEY, inputs)
    if record is None:
        seed = derive_seed(config.seed, "round", round_index, TRAIN)
        attempt = new_attempt()
        prefix = stage.data_uri(KEY, attempt, "x").removesuffix(".x")
        if frozen:
            file, history = _describe_frozen(context.store, prefix, config), list[Any]()
        else:
            groups = split_groups(
                _training_groups(context, catalog, manifest), config.training.num_workers
            )
            job = _job(context, groups, round_index, seed, start)
            file, history = _train(context, job, f"train-{inputs}", round_index, prefix)
        encoder = EncoderRef(prefix, config.encoder.kind, 0, inputs)
        assessed = _assess(context, catalog, encoder)
        record = stage.record(
            KEY,
            attempt=attempt,
            inputs=inputs,
            file=file,
            dim=assessed["dim"],
            fingerprint=assessed["fingerprint"] if frozen else inputs,
            history=history,
            health=assessed["health"],
            warnings=assessed["warnings"],
        )
    prefix = context.ledger.absolute(record["path"]).rpartition(".")[0]
    return TrainedEncoder(
        EncoderRef(prefix, config.encoder.kind, record["dim"], record["fingerprint"]),
        tuple(record["history"]),
        record["health"],
        tuple(record["warnings"]),
    )


def _training_groups(
    context: RunContext, catalog: Catalog, manifest: Manifest | None
) -> tuple[TileGroup, ...]:
    if manifest is not None:
        table = read_table(context.store, manifest.uri, sha256=manifest.sha256)
        order = np.lexsort((table["offset"].to_numpy(), np.array(table["uri"].to_pylist())))
        pieces = np.array_split(order, max(1, -(-len(order) // MANIFEST_GROUP)))
        return tuple(TileGroup(manifest.uri, manifest.sha256, piece) for piece in pieces)
    seed = derive_seed(context.config.seed, "training-sample")
    return _sample_groups(context.store, catalog.shards, context.config.training.sample, seed)


def _sample_groups(
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


def _job(
    context: RunContext,
    groups: tuple[TileGroup, ...],
    round_index: int,
    seed: int,
    start: EncoderRef | None,
) -> TrainingJob:
    training = context.config.training
    later = training.later_epochs or training.epochs
    return TrainingJob(
        store=context.store,
        config=context.config,
        groups=groups,
        epochs=training.epochs if round_index == 0 else later,
        seed=seed,
        start=start,
        board=ray.remote(ProgressBoard).options(num_cpus=0).remote(),
    )


def _train(
    context: RunContext, job: TrainingJob, name: str, round_index: int, prefix: str
) -> tuple[FileRecord, list[dict[str, Any]]]:
    training = context.config.training
    filesystem, path = context.store.arrow_filesystem(
        context.ledger.absolute(f"{context.round_name(round_index)}/{TRAIN}/checkpoints")
    )
    gpus = gpus_per_worker(context.config.ray)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": training.cpus_per_worker, "GPU": gpus},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    num_tiles = sum(len(group.rows) for group in job.groups)
    with context.reporter.task(f"train round {round_index}", job.epochs, "epochs") as advance:
        result = _fit(trainer, job.board, lambda news: advance(1, f"loss {news['loss']:.3f}"))
    if result.checkpoint is None:
        raise DataError(f"Training on {num_tiles} tiles ended without a checkpoint.")
    state, history = backbone_arrays(result.checkpoint)
    file = save_encoder(
        context.store,
        prefix,
        state,
        {
            "encoder": context.config.encoder.model_dump(mode="json"),
            "training_tiles": num_tiles,
            "epochs": job.epochs,
            "round": round_index,
            "seed": job.seed,
        },
    )
    return file, history


def _fit(trainer: TorchTrainer, board: Any, on_news: Any) -> ray.train.Result:  # noqa: ANN401 - actor handle and callback
    """Run `fit` in a thread, so that the driver can show progress meanwhile."""
    outcome: list[ray.train.Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(trainer.fit())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            outcome.append(error)

    thread = threading.Thread(target=run, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        for news in ray.get(board.take.remote()):
            on_news(news)
    failure = ray.get(board.error.remote())
    if failure is not None:
        raise failure
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _describe_frozen(store: Store, prefix: str, config: Config) -> FileRecord:
    text = json.dumps({"encoder": config.encoder.model_dump(mode="json")}, sort_keys=True, indent=1)
    store.write_bytes(f"{prefix}.json", text.encode())
    digest = hashlib.sha256(text.encode()).hexdigest()
    return FileRecord(f"{prefix}.json", 0, len(text.encode()), digest)


def _assess(context: RunContext, catalog: Catalog, encoder: EncoderRef) -> dict[str, Any]:
    rng = child_generator(context.config.seed, "health-shards")
    count = min(HEALTH_SHARDS, len(catalog.shards))
    chosen = sorted(rng.choice(len(catalog.shards), count, replace=False).tolist())
    groups = _sample_groups(
        context.store,
        [catalog.shards[number] for number in chosen],
        HEALTH_TILES,
        derive_seed(context.config.seed, "health"),
    )
    arguments = [(context.store, context.config, encoder, groups)]
    gpus = gpus_per_worker(context.config.ray)
    [(_, assessed)] = run_tasks(assess_encoder, arguments, num_gpus=gpus)
    return dict(assessed)


def assess_encoder(
    store: Store, config: Config, encoder: EncoderRef, groups: Sequence[TileGroup]
) -> dict[str, Any]:
    """Measure an encoder's health on a sample of tiles (runs on a worker)."""
    set_threads(config.embedding.cpus_per_worker)
    device = worker_device()
    if encoder.kind == "frozen":
        backbone = build_initial(store, config.encoder, config.seed).to(device)
    else:
        backbone = load_trained(store, encoder, config.encoder, config.seed).to(device)
    parts = []
    for group in groups:
        table = read_table(store, group.uri, sha256=group.sha256)
        parts.append(decode_rows(store, table, group.rows, config.encoder.image_size)[0])
    tiles = np.concatenate(parts)
    encoder_config, training = config.encoder, config.training
    health: dict[str, float] = {}
    warnings = ["Too few tiles to measure the embedding's health."]
    if len(tiles) > 1:
        views = OverheadViews(
            encoder_config.image_size,
            training.crop_min_scale,
            training.color_strength,
            encoder_config.mean,
            encoder_config.std,
        )
        measured = measure_health(
            backbone,
            tiles,
            views,
            batch_size=config.embedding.batch_size,
            seed=derive_seed(config.seed, "health"),
            device=device,
        )
        if measured is not None:
            health, warnings = asdict(measured), measured.warnings()
    return {
        "dim": backbone.dim,
        "fingerprint": frozen_fingerprint(config.encoder, backbone),
        "health": health,
        "warnings": warnings,
    }
