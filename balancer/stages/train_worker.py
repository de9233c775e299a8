"""The training loop of one worker, and its checkpoints. Loads torch: for workers only."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ray
import ray.train
import safetensors.numpy
import safetensors.torch
from ray.train.torch import prepare_model
from torch import Tensor

from balancer.embedding.backbones import Backbone
from balancer.embedding.models import build_model
from balancer.embedding.training import EpochReport, TrainingPlan, train_epochs
from balancer.embedding.weights import load_weights, state_from_numpy
from balancer.errors import BalancerError
from balancer.seeding import derive_seed
from balancer.stages.collectives import Workers
from balancer.stages.dynamic_pruning import (
    Kept,
    choose_tiles,
    kept_from_arrays,
    kept_to_arrays,
    prunes_at,
    pruning_seed,
    steps_of_epochs,
)
from balancer.stages.encoders import build_initial, load_trained, set_threads, worker_device
from balancer.stages.tile_stream import TileStream
from balancer.stages.training_job import KEPT, MODEL, OPTIMIZER, PROGRESS, TrainingJob
from balancer.types import ByteArray

CHECKPOINTS = 10
"""Checkpoints of one training, unless `training.checkpoint_every` says otherwise."""


def train_worker(job: TrainingJob) -> None:
    """Train on this worker's share of the tiles, with checkpoints.

    An error of the input or configuration would only repeat: it goes to the board, and a single
    worker ends in peace, so that Ray Train does not try again. Among several workers it has to be
    raised, or the others would wait for this one for ever.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        _train(job)
    except BalancerError as error:
        ray.get(job.board.fail.remote(error))
        if ray.train.get_context().get_world_size() > 1:
            raise


def _train(job: TrainingJob) -> None:
    config, training = job.config, job.config.training
    set_threads(training.cpus_per_worker)
    where = ray.train.get_context()
    rank, world_size = where.get_world_rank(), where.get_world_size()
    device = worker_device()
    backbone = (
        build_initial(job.store, config.encoder, job.seed)
        if job.start is None
        else load_trained(job.store, job.start, config.encoder, job.seed)
    )
    model = build_model(
        config.encoder, training, backbone, seed=job.seed, gather_distributed=world_size > 1
    )
    resumed = _read_checkpoint(ray.train.get_checkpoint())
    if resumed.model is not None:
        load_weights(model, resumed.model, what="the checkpoint")
    network = prepare_model(model) if world_size > 1 else model.to(device)
    stream = TileStream(
        job.store,
        job.groups,
        image_size=config.encoder.image_size,
        resize=config.encoder.resize,
        batch_size=training.batch_size,
        pool_tiles=training.pool_tiles,
        seed=job.seed,
        rank=rank,
        world_size=world_size,
    )
    history = resumed.history
    if resumed.kept is not None:
        stream.prune(resumed.kept)
    pruner = _Pruner(
        stream, model.backbone, Workers(rank, world_size, device), job, kept=resumed.kept
    )
    every = training.checkpoint_every or max(1, job.epochs // CHECKPOINTS)

    def on_epoch(report: EpochReport) -> None:
        figures = {
            "epoch": report.epoch,
            "loss": report.loss,
            "spread": report.spread,
            "seconds": report.seconds,
            "unreadable": stream.num_unreadable,
        } | pruner.figures(report.num_tiles)
        history.append(figures)
        if rank == 0:
            ray.get(job.board.post.remote(figures))
        # Reporting is a barrier and an upload: every rank takes the same decision.
        if (report.epoch + 1) % every and report.epoch + 1 < job.epochs:
            return
        if rank != 0:
            ray.train.report(figures)
            return
        with tempfile.TemporaryDirectory() as folder:
            _write_checkpoint(Path(folder), report, history, pruner.kept)
            ray.train.report(figures, ray.train.Checkpoint.from_directory(folder))

    train_epochs(
        network,
        pruner.epoch,
        training,
        TrainingPlan(
            epochs=job.epochs,
            steps_per_epoch=stream.steps_per_epoch,
            seed=derive_seed(job.seed, "rank", rank),
            device=device,
            start_epoch=len(history),
            steps_of_epochs=steps_of_epochs(config, stream, job.epochs),
        ),
        optimizer_state=resumed.optimizer,
        on_epoch=on_epoch,
    )


class _Pruner:
    """The batches of each epoch, of the tiles that the last pruning kept."""

    def __init__(
        self,
        stream: TileStream,
        backbone: Backbone,
        workers: Workers,
        job: TrainingJob,
        *,
        kept: Kept | None,
    ) -> None:
        self._stream, self._backbone, self._workers, self._job = stream, backbone, workers, job
        self.kept = kept
        self._seconds = 0.0

    def epoch(self, number: int) -> Iterator[ByteArray]:
        """Prune if it is time to, and return the epoch's batches."""
        started = time.perf_counter()
        if prunes_at(self._job.config, number):
            seed = pruning_seed(self._job.seed, number)
            self.kept = choose_tiles(
                self._stream, self._backbone, self._workers, self._job.config, seed=seed
            )
            self._stream.prune(self.kept)
        self._seconds = time.perf_counter() - started
        return self._stream.epoch(number)

    def figures(self, num_tiles: int) -> dict[str, float]:
        """Return an epoch's figures in a training with pruning; none in another."""
        if self._job.config.training.pruning is None:
            return {}
        return {"tiles": num_tiles, "pruning_seconds": self._seconds}


@dataclass(frozen=True, slots=True)
class _Resumed:
    model: dict[str, Tensor] | None = None
    optimizer: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    kept: Kept | None = None


def _read_checkpoint(checkpoint: ray.train.Checkpoint | None) -> _Resumed:
    if checkpoint is None:
        return _Resumed()
    with checkpoint.as_directory() as name:
        folder = Path(name)
        return _Resumed(
            state_from_numpy(safetensors.numpy.load_file(folder / MODEL)),
            safetensors.torch.load_file(folder / OPTIMIZER),
            json.loads((folder / PROGRESS).read_text()),
            kept_from_arrays(safetensors.numpy.load_file(folder / KEPT))
            if (folder / KEPT).exists()
            else None,
        )


def _write_checkpoint(
    folder: Path, report: EpochReport, history: list[dict[str, float]], kept: Kept | None
) -> None:
    safetensors.numpy.save_file(report.model_state(), folder / MODEL)
    safetensors.torch.save_file(report.optimizer_state(), folder / OPTIMIZER)
    (folder / PROGRESS).write_text(json.dumps(history))
    if kept is not None:
        safetensors.numpy.save_file(kept_to_arrays(kept), folder / KEPT)
