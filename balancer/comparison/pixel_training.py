"""Training on pixels, through the encoder: the arm whose repeats are augmented so that they differ.

On cached features a repeat is an exact copy, and oversampling can only weigh it more. Here each
repeat of a tile is cropped, turned, mirrored and recoloured anew in every epoch (the lecture's
"augment repeats"), so copies differ, and the encoder learns too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from balancer.comparison.losses import weighted_bce
from balancer.comparison.plans import TrainingPlan
from balancer.config_fields import Fraction, Number, PositiveInt, Section, Triple
from balancer.embedding.backbones import Backbone
from balancer.embedding.transforms import OverheadViews, to_input
from balancer.imbalance.labels import LabelTable
from balancer.seeding import child_generator, derive_seed
from balancer.types import BoolArray, ByteArray, FloatArray, IntArray

TileReader = Callable[[IntArray], ByteArray]
"""From row numbers (B,) to their tiles (B, S, S, 3) uint8, in this order; rows may repeat."""
Augment = Literal["repeats", "all", "none"]
SMALLEST_BATCH = 2
"""Batch normalisation needs two tiles; a last batch of one is left out."""


class PixelSettings(Section):
    """How encoder and head are trained on pixels."""

    hidden: PositiveInt = 128
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.2
    lr: Annotated[Number, Field(gt=0)] = 1e-3
    """Of the head."""
    encoder_lr: Annotated[Number, Field(ge=0)] = 1e-4
    """Of the encoder; 0 keeps it as it is, in evaluation mode."""
    batch: Annotated[int, Field(ge=SMALLEST_BATCH)] = 64
    epochs: PositiveInt = 20
    augment: Augment = "repeats"
    """Which tiles of an epoch are augmented: every showing of a tile after its first, all, or none
    (the control, in which repeats are exact copies)."""
    crop_min_scale: Annotated[Fraction, Field(gt=0)] = 0.3
    color_strength: Fraction = 0.3
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    device: str = "cpu"


class PixelModel(nn.Module):
    """An encoder and a head: (B, 3, S, S) images to (B, C) logits."""

    def __init__(self, backbone: Backbone, num_classes: int, settings: PixelSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Linear(backbone.dim, settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def train_pixels(
    reader: TileReader,
    labels: LabelTable,
    plan: TrainingPlan,
    backbone: Backbone,
    settings: PixelSettings,
    *,
    seed: int,
    num_updates: int | None = None,
) -> PixelModel:
    """Train a copy of an encoder, and a head, by a plan.

    Args:
        reader: gives the tiles of the training part, all of one size.
        labels: of the training part.
        plan: the tiles of an epoch, and the weights.
        backbone: where the encoder starts from; it is not changed.
        settings: of the training.
        seed: of the head's first weights, the order of tiles, dropout and augmentation.
        num_updates: gradient steps, for the equal-updates arm; those of `settings.epochs` epochs
            when absent.

    Returns:
        The model, in evaluation mode, on `settings.device`.

    Raises:
        ValueError: a plan of fewer than two rows; tiles that are not square uint8; a loss that is
            not finite; num_updates below 1.

    Cost: that of a forward and a backward pass per tile shown; one batch of tiles in memory.
    """
    _check(labels, plan, num_updates)
    device = torch.device(settings.device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(derive_seed(seed, "pixel-head"))
        model = PixelModel(copy.deepcopy(backbone), len(labels.classes), settings).to(device)
        _Run(model, reader, labels, plan, settings, seed).train(num_updates)
    return model.eval()


def pixel_logits(
    model: PixelModel, reader: TileReader, num_rows: int, settings: PixelSettings
) -> FloatArray:
    """Return the (num_rows, C) float32 logits of the reader's tiles 0, 1, ..., not augmented.

    Cost: a forward pass per tile; one batch of tiles in memory.
    """
    parts = []
    model.eval()
    with torch.inference_mode():
        for begin in range(0, num_rows, settings.batch):
            rows = np.arange(begin, min(begin + settings.batch, num_rows))
            images = to_input(reader(rows), settings.mean, settings.std, settings.device)
            parts.append(model(images).float().cpu().numpy())
    return np.concatenate(parts).astype(np.float32, copy=False)


def augmented_input(
    tiles: ByteArray, chosen: BoolArray, settings: PixelSettings, seed: int
) -> Tensor:
    """Return a batch as network input, in which the chosen tiles are augmented and the others not.

    Args:
        tiles: (B, S, S, 3) uint8.
        chosen: (B,) which are augmented, each by its own draw.
        settings: strengths, normalisation, device.
        seed: of the draws.

    Returns:
        (B, 3, S, S) float32.

    Raises:
        ValueError: tiles that are not square, or not uint8.

    >>> tiles = np.random.default_rng(0).integers(0, 255, (1, 8, 8, 3)).astype(np.uint8)
    >>> chosen = np.array([False, True, True])
    >>> copies = augmented_input(np.repeat(tiles, 3, 0), chosen, PixelSettings(), 0)
    >>> [bool((copies[a] == copies[b]).all()) for a, b in ((0, 1), (0, 2), (1, 2))]
    [False, False, False]
    """
    if tiles.ndim != 4 or tiles.shape[1] != tiles.shape[2]:
        raise ValueError(f"Tiles must be (B, S, S, 3) uint8; got shape {tiles.shape}. Crop them.")
    images = to_input(tiles, settings.mean, settings.std, settings.device)
    if chosen.any():
        views = OverheadViews(
            tiles.shape[1],
            settings.crop_min_scale,
            settings.color_strength,
            settings.mean,
            settings.std,
        )
        images[torch.from_numpy(chosen).to(images.device)] = views.single(
            tiles[chosen], seed, settings.device
        )
    return images


def repeats_of(rows: IntArray) -> BoolArray:
    """Return which rows stand earlier in the plan already.

    >>> repeats_of(np.array([4, 7, 4, 4])).tolist()
    [False, False, True, True]
    """
    first = np.unique(rows, return_index=True)[1]
    repeats = np.ones(len(rows), np.bool_)
    repeats[first] = False
    return repeats


class _Run:
    """One training; inputs are validated, and torch's generator is forked by the caller."""

    def __init__(
        self,
        model: PixelModel,
        reader: TileReader,
        labels: LabelTable,
        plan: TrainingPlan,
        settings: PixelSettings,
        seed: int,
    ) -> None:
        self._model, self._reader, self._plan = model, reader, plan
        self._settings, self._seed = settings, seed
        self._targets = torch.from_numpy(labels.matrix.astype(np.float32))
        self._item_weights = torch.from_numpy(plan.item_weights)
        self._class_weights = torch.from_numpy(plan.class_weights).to(settings.device)
        chosen = {"all": np.ones, "none": np.zeros}.get(settings.augment)
        self._augmented = (
            repeats_of(plan.rows) if chosen is None else chosen(len(plan.rows), np.bool_)
        )
        groups = [{"params": list(model.head.parameters()), "lr": settings.lr}]
        if settings.encoder_lr > 0:
            encoder = {"params": list(model.backbone.parameters()), "lr": settings.encoder_lr}
            groups.append(encoder)
        else:
            model.backbone.requires_grad_(requires_grad=False)
        self._adam = torch.optim.Adam(groups)

    def train(self, num_updates: int | None) -> None:
        settings = self._settings
        self._model.train()
        self._model.backbone.train(settings.encoder_lr > 0)
        done = epoch = 0
        while epoch < settings.epochs if num_updates is None else done < num_updates:
            for places in self._batches(epoch):
                if done == num_updates:
                    return
                self._step(places, derive_seed(self._seed, "pixels", epoch, done))
                done += 1
            epoch += 1

    def _batches(self, epoch: int) -> Iterator[IntArray]:
        count = len(self._plan.rows)
        order = child_generator(self._seed, "order", epoch).permutation(count)
        for begin in range(0, count, self._settings.batch):
            places = order[begin : begin + self._settings.batch]
            if len(places) >= SMALLEST_BATCH:
                yield places

    def _step(self, places: IntArray, seed: int) -> None:
        torch.manual_seed(seed)  # of dropout
        rows = self._plan.rows[places]
        chosen = self._augmented[places]
        images = augmented_input(self._reader(rows), chosen, self._settings, seed)
        device = images.device
        loss = weighted_bce(
            self._model(images),
            self._targets[torch.from_numpy(rows)].to(device),
            self._item_weights[torch.from_numpy(places)].to(device),
            self._class_weights,
            as_published=self._plan.batch_scale is not None,
        )
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss must stay finite; got {loss.item()}. Lower lr or encoder_lr."
            )
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self._adam.step()


def _check(labels: LabelTable, plan: TrainingPlan, num_updates: int | None) -> None:
    if len(plan.rows) < SMALLEST_BATCH:
        raise ValueError(
            f"The plan must have at least {SMALLEST_BATCH} rows; it has {len(plan.rows)}."
        )
    if plan.rows.min() < 0 or plan.rows.max() >= len(labels):
        raise ValueError(
            f"The plan's rows must lie within the {len(labels)} tiles of the training part; got "
            f"{plan.rows.min()} to {plan.rows.max()}."
        )
    if num_updates is not None and num_updates < 1:
        raise ValueError(f"num_updates must be at least 1; got {num_updates}.")
