"""What goes to a training worker, and what comes back from it.

The driver and Ray Train's own actors load this module, so it imports no torch (0.4 GiB a process);
the loop itself is in `train_worker`, which only the workers load.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import safetensors.numpy

from balancer.config import Config
from balancer.stages.tile_stream import TileGroup
from balancer.storage.filesystem import Store
from balancer.types import EncoderRef

MODEL, OPTIMIZER, PROGRESS = "model.safetensors", "optimizer.safetensors", "progress.json"
"""Files of a checkpoint."""
KEPT = "kept.safetensors"
"""Also one, when training tiles have been pruned: those kept."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Everything a training worker needs.

    Attributes:
        store: opens tiles and weights.
        config: of the run.
        groups: tiles to train on.
        epochs: of this round.
        seed: of this round's training.
        start: encoder to go on from; None for the configured start.
        board: actor handle that is told each epoch's loss.
    """

    store: Store
    config: Config
    groups: tuple[TileGroup, ...]
    epochs: int
    seed: int
    start: EncoderRef | None
    board: Any


def run_training_job(loop_config: dict[str, Any]) -> None:
    """Work on `loop_config["job"]` (the function that Ray Train runs on every worker)."""
    from balancer.stages.train_worker import train_worker  # torch, on the worker only

    train_worker(loop_config["job"])


def backbone_arrays(
    checkpoint: ray.train.Checkpoint,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the backbone network's weights and the history from a finished training."""
    prefix = "backbone.network."
    with checkpoint.as_directory() as name:
        state = safetensors.numpy.load_file(Path(name) / MODEL)
        history = json.loads((Path(name) / PROGRESS).read_text())
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, history
