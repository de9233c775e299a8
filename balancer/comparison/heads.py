"""The head that every strategy trains on the features of a frozen encoder.

Linear(D, 128) - ReLU - Dropout(0.2) - Linear(128, C), binary cross entropy with logits, Adam: the
head of Panigrahi and Zhu, whose sigmoid and BCELoss are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from balancer.comparison.losses import logit_gradient
from balancer.comparison.plans import TrainingData, TrainingPlan
from balancer.comparison.threads import one_thread
from balancer.config_fields import Number, PositiveInt, Section
from balancer.seeding import child_generator, derive_seed
from balancer.types import FloatArray, IntArray

ROWS_AT_ONCE = 8192
"""Rows whose logits are computed at once."""


class HeadSettings(Section):
    """The head and how it is trained; the defaults are those of the paper's Planet runs."""

    hidden: PositiveInt = 128
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    batch: PositiveInt = 64
    epochs: PositiveInt = 20
    step_lr: Annotated[tuple[PositiveInt, Number], Field(strict=False)] | None = None
    """Multiply the rate by the second number after every so many epochs; (7, 0.1) in the authors'
    code, absent from the paper's text. With a given number of updates the same shares of it."""
    standardize: bool = False
    """Bring features to mean 0 and deviation 1 over the whole training part, in every arm alike."""
    device: str = "cpu"


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A trained head: float32 arrays, so that it can travel between processes.

    Attributes:
        shift: (D,) subtracted from the features.
        scale: (D,) that they are then multiplied by.
        hidden_weight: (H, D).
        hidden_bias: (H,).
        weight: (C, H).
        bias: (C,).
    """

    shift: FloatArray
    scale: FloatArray
    hidden_weight: FloatArray
    hidden_bias: FloatArray
    weight: FloatArray
    bias: FloatArray

    def logits(self, features: FloatArray) -> FloatArray:
        """Return the (N, C) float32 logits of features (N, D).

        Raises:
            ValueError: features of another width.
        """
        if features.ndim != 2 or features.shape[1] != len(self.shift):
            raise ValueError(
                f"features must have {len(self.shift)} columns; got shape {features.shape}."
            )
        parts = [np.empty((0, len(self.bias)), np.float32)]
        for begin in range(0, len(features), ROWS_AT_ONCE):
            part = (features[begin : begin + ROWS_AT_ONCE] - self.shift) * self.scale
            hidden = np.maximum(part @ self.hidden_weight.T + self.hidden_bias, 0)
            parts.append((hidden @ self.weight.T + self.bias).astype(np.float32))
        return np.concatenate(parts)


def count_updates(num_rows: int, settings: HeadSettings) -> int:
    """Return how many gradient steps training on a plan of `num_rows` takes.

    >>> count_updates(130, HeadSettings(epochs=2))
    6
    """
    return settings.epochs * -(-num_rows // settings.batch)


def train_head(
    data: TrainingData,
    plan: TrainingPlan,
    settings: HeadSettings,
    seed: int,
    num_updates: int | None = None,
) -> Head:
    """Train a head by a plan.

    Args:
        data: the training part.
        plan: the tiles of an epoch, and the weights.
        settings: the head.
        seed: of the first weights, the order of tiles, and dropout. Plans with equal seeds start
            from equal weights.
        num_updates: gradient steps, for the equal-updates arm; those of `settings.epochs` epochs
            when absent. Epochs are repeated, or cut, until they are done.

    Returns:
        The head after the last step. Equal arguments give equal bits on a CPU.

    Raises:
        ValueError: a plan without rows, whose weights do not fit, or that leads to a head that is
            not finite; num_updates below 1.

    Cost: about 0.6 ms per step for D = 512 on one core; the features once more in memory if they
        are standardised.

    >>> from balancer.imbalance.labels import label_table
    >>> table = label_table(["a", "b"], [["sea"], ["land"]])
    >>> data = TrainingData(table, np.eye(2, dtype=np.float32))
    >>> ones = np.ones(2, np.float32)
    >>> head = train_head(data, TrainingPlan(np.arange(2), ones, ones), HeadSettings(lr=0.1), 0)
    >>> head.logits(data.features).argmax(axis=1).tolist()  # classes are land, sea
    [1, 0]
    """
    total = count_updates(len(plan.rows), settings) if num_updates is None else num_updates
    _check(data, plan, total)
    features = np.ascontiguousarray(data.features, np.float32)
    shift, scale = _scaling(features, settings.standardize)
    if settings.standardize:
        features = (features - shift) * scale
    with one_thread():
        trainer = _Trainer(features, data, plan, settings, seed)
        for update, places in enumerate(_batches(len(plan.rows), settings.batch, total, seed)):
            trainer.step(places, rate=_rate(settings, update, total))
        arrays = trainer.arrays()
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "Training must lead to finite weights; it did not. Lower lr, standardise the features, "
            "or lower the weights of the plan."
        )
    return Head(shift, scale, *arrays)


class _Trainer:
    """Weights in one vector, their gradients in another: Adam then is one operation per step."""

    def __init__(
        self,
        features: FloatArray,
        data: TrainingData,
        plan: TrainingPlan,
        settings: HeadSettings,
        seed: int,
    ) -> None:
        device = torch.device(settings.device)
        self._features = torch.from_numpy(features).to(device)
        self._targets = torch.from_numpy(data.labels.matrix.astype(np.float32)).to(device)
        self._rows = torch.from_numpy(plan.rows).to(device)
        self._item_weights = torch.from_numpy(plan.item_weights).to(device)
        self._class_weights = torch.from_numpy(plan.class_weights).to(device)
        self._as_published = plan.batch_scale is not None
        self._dropout = settings.dropout
        dim, hidden, classes = features.shape[1], settings.hidden, self._targets.shape[1]
        self._shapes = [(hidden, dim), (hidden,), (classes, hidden), (classes,)]
        start = torch.Generator().manual_seed(derive_seed(seed, "weights"))
        # torch's own start of Linear: uniform within 1 / sqrt(inputs), for weights and biases.
        bounds = [dim**-0.5, dim**-0.5, hidden**-0.5, hidden**-0.5]
        parts = [
            (torch.rand(shape, generator=start) * 2 - 1).flatten() * bound
            for shape, bound in zip(self._shapes, bounds, strict=True)
        ]
        self._weights = torch.cat(parts).to(device)
        self._weights.grad = torch.zeros_like(self._weights)
        self._views = self._split(self._weights)
        self._gradients = self._split(self._weights.grad)
        self._noise = torch.Generator(device).manual_seed(derive_seed(seed, "dropout"))
        self._adam = torch.optim.Adam([self._weights], lr=settings.lr, fused=True)

    def step(self, places: IntArray, *, rate: float) -> None:
        """Do one gradient step on the rows at these places of the plan."""
        at = torch.from_numpy(places).to(self._rows.device)
        rows = self._rows[at]
        inputs, targets = self._features[rows], self._targets[rows]
        hidden_weight, hidden_bias, weight, bias = self._views
        hidden = torch.addmm(hidden_bias, inputs, hidden_weight.T)
        gate = (hidden > 0).float()
        if self._dropout:
            noise = torch.rand(hidden.shape, generator=self._noise, device=hidden.device)
            gate *= (noise >= self._dropout) / (1 - self._dropout)
        hidden *= gate
        back = logit_gradient(
            torch.addmm(bias, hidden, weight.T),
            targets,
            self._item_weights[at],
            self._class_weights,
            as_published=self._as_published,
        )
        back_hidden = (back @ weight) * gate
        gradients = self._gradients
        torch.mm(back_hidden.T, inputs, out=gradients[0])
        torch.sum(back_hidden, 0, out=gradients[1])
        torch.mm(back.T, hidden, out=gradients[2])
        torch.sum(back, 0, out=gradients[3])
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()

    def arrays(self) -> list[FloatArray]:
        """Return copies of the weights, in the order of `Head`."""
        return [view.cpu().numpy().copy() for view in self._views]

    def _split(self, vector: Tensor) -> list[Tensor]:
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        parts = torch.split(vector, sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _batches(num_rows: int, batch: int, total: int, seed: int) -> Iterator[IntArray]:
    done = epoch = 0
    while done < total:
        order = child_generator(seed, "order", epoch).permutation(num_rows)
        for begin in range(0, num_rows, batch):
            if done == total:
                return
            yield order[begin : begin + batch]
            done += 1
        epoch += 1


def _rate(settings: HeadSettings, update: int, total: int) -> float:
    if settings.step_lr is None:
        return settings.lr
    step, factor = settings.step_lr
    epoch = update * settings.epochs // total
    return float(settings.lr * factor ** (epoch // step))


def _scaling(features: FloatArray, standardize: bool) -> tuple[FloatArray, FloatArray]:
    dim = features.shape[1]
    if not standardize:
        return np.zeros(dim, np.float32), np.ones(dim, np.float32)
    deviation = features.std(axis=0, dtype=np.float64)
    # A column without deviation says nothing; its scale does not matter.
    scale = 1.0 / np.where(deviation > 0, deviation, 1.0)
    return features.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)


def _check(data: TrainingData, plan: TrainingPlan, total: int) -> None:
    if len(plan.rows) == 0:
        raise ValueError("The plan must have rows; it has none. Raise its target or size.")
    if plan.item_weights.shape != plan.rows.shape:
        raise ValueError(
            f"item_weights must have one value for each of {len(plan.rows)} rows; got shape "
            f"{plan.item_weights.shape}."
        )
    if plan.class_weights.shape != (len(data.labels.classes),):
        raise ValueError(
            f"class_weights must have one value for each of {len(data.labels.classes)} classes; "
            f"got shape {plan.class_weights.shape}."
        )
    if total < 1:
        raise ValueError(f"num_updates must be at least 1; got {total}.")
