"""Train the round's encoder under Ray Train, or take a frozen one; check its health."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from balancer.config import Config, digest_json
from balancer.errors import DataError
from balancer.seeding import derive_seed
from balancer.stages.assess import assess
from balancer.stages.catalog import Catalog
from balancer.stages.context import RunContext
from balancer.stages.progress_board import ProgressBoard
from balancer.stages.resources import gpus_per_worker
from balancer.stages.tile_stream import TileGroup, split_groups
from balancer.stages.training_job import TrainingJob, backbone_arrays, run_training_job
from balancer.stages.training_tiles import training_groups
from balancer.storage.checkpoints import save_encoder
from balancer.storage.filesystem import Store
from balancer.storage.ledger import new_attempt
from balancer.storage.tables import FileRecord
from balancer.types import EncoderRef, Manifest

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

TRAIN = "train"
KEY = "encoder"
MAX_FAILURES = 3
"""Times a training worker may die and resume from the last checkpoint."""
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """The round's encoder with what its training showed.

    Attributes:
        encoder: reference to the stored encoder.
        history: per epoch `epoch`, `loss`, `spread`, `seconds`; empty for a frozen encoder.
        health: label-free measures, see `balancer.embedding.health`.
        warnings: sentences about the health; empty when it is good.
        distrust: those that speak against diverse picks, as one text; empty when none does.
    """

    encoder: EncoderRef
    history: tuple[Mapping[str, float], ...]
    health: Mapping[str, float]
    warnings: tuple[str, ...]
    distrust: str


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
                training_groups(context, catalog, manifest), config.training.num_workers
            )
            job = _job(context, groups, round_index, seed, start)
            file, history = _train(context, job, f"train-{inputs}", round_index, prefix)
        encoder = EncoderRef(prefix, config.encoder.kind, 0, inputs)
        assessed = assess(context, catalog, encoder)
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
            distrust=assessed["distrust"],
        )
    prefix = context.ledger.absolute(record["path"]).rpartition(".")[0]
    return TrainedEncoder(
        EncoderRef(prefix, config.encoder.kind, record["dim"], record["fingerprint"]),
        tuple(record["history"]),
        record["health"],
        tuple(record["warnings"]),
        record["distrust"],
    )


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
    checkpoints = f"{context.round_name(round_index)}/{TRAIN}/checkpoints"
    trainer = _trainer(context, job, name, context.ledger.absolute(checkpoints))
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


def _trainer(
    context: RunContext, job: TrainingJob, name: str, checkpoints: str
) -> DataParallelTrainer | TorchTrainer:
    training = context.config.training
    filesystem, path = context.store.arrow_filesystem(checkpoints)
    gpus = gpus_per_worker(context.config.ray)
    plan: dict[str, Any] = {
        "train_loop_config": {"job": job},
        "scaling_config": ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": training.cpus_per_worker, "GPU": gpus},
        ),
        "run_config": RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    }
    if training.num_workers == 1:
        # One worker needs no process group, and without one neither the driver nor Ray Train's
        # controller loads torch, which is 0.4 GiB in each.
        return DataParallelTrainer(run_training_job, **plan)
    from ray.train.torch import TorchTrainer

    return TorchTrainer(run_training_job, **plan)


def _fit(
    trainer: DataParallelTrainer | TorchTrainer,
    board: Any,  # noqa: ANN401 - an actor handle
    on_news: Callable[[dict[str, float]], None],
) -> ray.train.Result:
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
