"""The training loop: one worker's share of the epochs, without knowing who else takes part.

The same loop runs a plain model on one device and a model that the caller has wrapped for
data-parallel training. All randomness is named by (seed, epoch, step), so going on from the state
of any epoch gives the same weights as never having stopped (on a CPU bitwise, for a fixed number of
threads).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from balancer.config import TrainingConfig
from balancer.embedding.optimizer_state import (
    optimizer_state_from_tensors,
    optimizer_state_to_tensors,
)
from balancer.embedding.self_supervised import SelfSupervisedModel
from balancer.embedding.weights import Arrays, state_to_numpy
from balancer.errors import ConfigError
from balancer.seeding import derive_seed
from balancer.types import ByteArray

WARMUP_SHARE = 0.1
"""Share of all steps in which the learning rate rises to its peak."""
SMALLEST_BATCH = 2
"""One tile has nothing to be told apart from, and batch normalisation needs two."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What one call of `train_epochs` has to do.

    Attributes:
        epochs: of the whole schedule, counted from 0.
        steps_per_epoch: batches of an epoch; later ones are left. Must be equal on all workers.
        seed: of everything random; give each data-parallel worker its own.
        device: where the model lies.
        start_epoch: first epoch to run, after a restart.
        steps_of_epochs: batches of each epoch where they differ; `steps_per_epoch` for all when
            absent.
    """

    epochs: int
    steps_per_epoch: int
    seed: int
    device: torch.device | str = "cpu"
    start_epoch: int = 0
    steps_of_epochs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.steps_per_epoch < 1 or self.start_epoch < 0:
            raise ValueError(
                f"A plan must have epochs >= 1, steps_per_epoch >= 1 and start_epoch >= 0. "
                f"Got {self.epochs}, {self.steps_per_epoch} and {self.start_epoch} instead."
            )
        listed = self.steps_of_epochs
        if listed is not None and (len(listed) != self.epochs or min(listed) < 1):
            raise ValueError(
                f"steps_of_epochs must have a number >= 1 for each of the {self.epochs} epochs. "
                f"Got {listed} instead."
            )

    def steps_before(self, epoch: int) -> int:
        """Return the steps of all epochs before `epoch`.

        >>> TrainingPlan(3, 4, 0, steps_of_epochs=(4, 2, 2)).steps_before(2)
        6
        """
        if self.steps_of_epochs is None:
            return epoch * self.steps_per_epoch
        return sum(self.steps_of_epochs[:epoch])


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What an epoch came to; the methods copy the state as it is when they are called.

    Attributes:
        epoch: counted from 0.
        loss: mean over the epoch's steps.
        seconds: wall time, with the wait for data.
        num_tiles: tiles that this worker trained on.
        spread: collapse indicator of the last batch's features, see `feature_spread`.
        learning_rate: of the last step.
    """

    epoch: int
    loss: float
    seconds: float
    num_tiles: int
    spread: float
    learning_rate: float
    model: SelfSupervisedModel = field(repr=False, compare=False)
    optimizer: torch.optim.Optimizer = field(repr=False, compare=False)

    def backbone_state(self) -> Arrays:
        """Return the backbone's network, as `build_backbone(load_state=...)` takes it."""
        return state_to_numpy(self.model.backbone.network)

    def model_state(self) -> Arrays:
        """Return backbone and head, to go on training with `load_weights(model, ...)`."""
        return state_to_numpy(self.model)

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's moments, for `train_epochs(optimizer_state=...)`."""
        return optimizer_state_to_tensors(self.optimizer)


def train_epochs(
    model: nn.Module,
    epoch_batches: Callable[[int], Iterable[ByteArray]],
    training: TrainingConfig,
    plan: TrainingPlan,
    *,
    optimizer_state: Mapping[str, Tensor] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> None:
    """Train `model` in place: AdamW, short warm-up, cosine decay; bfloat16 on CUDA only.

    Args:
        model: a `SelfSupervisedModel` on `plan.device`, or a data-parallel wrapper of one.
        epoch_batches: gives the batches of an epoch, each (B, H, W, 3) uint8. Batches of one tile
            are left out.
        training: learning rate and weight decay.
        plan: how long, where, and with which seed.
        optimizer_state: from `EpochReport.optimizer_state` of the epoch before `start_epoch`.
        on_epoch: called after each epoch.

    Raises:
        ConfigError: the loss is not finite.
        ValueError: an epoch without a batch of two tiles, or a foreign `optimizer_state`.
    """
    device = torch.device(plan.device)
    inner = model if isinstance(model, SelfSupervisedModel) else model.module
    if not isinstance(inner, SelfSupervisedModel):
        raise TypeError(
            f"The 'model' parameter must be a SelfSupervisedModel or wrap one. "
            f"Got {type(inner).__name__} instead."
        )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    if optimizer_state is not None:
        optimizer_state_from_tensors(optimizer, optimizer_state)
    model.train()
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        for epoch in range(plan.start_epoch, plan.epochs):
            run = _Epoch(model, inner, optimizer, training, plan, epoch)
            report = run.train(epoch_batches(epoch))
            if on_epoch is not None:
                on_epoch(report)


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One epoch of `train_epochs`; inputs are validated."""

    model: nn.Module
    inner: SelfSupervisedModel
    optimizer: torch.optim.Optimizer
    training: TrainingConfig
    plan: TrainingPlan
    epoch: int

    def train(self, batches: Iterable[ByteArray]) -> EpochReport:
        started = time.perf_counter()
        losses: list[Tensor] = []
        num_tiles, rate = 0, 0.0
        usable = (batch for batch in batches if len(batch) >= SMALLEST_BATCH)
        start, end = (self.plan.steps_before(self.epoch + later) for later in range(2))
        for step, tiles in enumerate(itertools.islice(usable, end - start)):
            rate = learning_rate_at(
                start + step,
                self.plan.steps_before(self.plan.epochs),
                self.training.learning_rate,
            )
            losses.append(self._step(tiles, derive_seed(self.plan.seed, self.epoch, step), rate))
            num_tiles += len(tiles)
        if not losses:
            raise ValueError(
                f"Epoch {self.epoch} must have a batch of at least {SMALLEST_BATCH} tiles. "
                f"Got none instead."
            )
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise ConfigError(
                f"The training loss must stay finite; got {loss} in epoch {self.epoch}. "
                f"Lower training.learning_rate (now {self.training.learning_rate})."
            )
        return EpochReport(
            epoch=self.epoch,
            loss=loss,
            seconds=time.perf_counter() - started,
            num_tiles=num_tiles,
            spread=float(self.inner.spread),
            learning_rate=rate,
            model=self.inner,
            optimizer=self.optimizer,
        )

    def _step(self, tiles: ByteArray, seed: int, rate: float) -> Tensor:
        device = torch.device(self.plan.device)
        # Dropout in a backbone of the user's draws from the global generator, forked by the caller.
        torch.manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss: Tensor = self.model(torch.from_numpy(tiles).to(device), seed)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach().float()


def learning_rate_at(step: int, total: int, peak: float) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine down to zero.

    >>> [round(learning_rate_at(step, 20, 1.0), 2) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.01]
    """
    warmup = max(1, round(WARMUP_SHARE * total))
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
