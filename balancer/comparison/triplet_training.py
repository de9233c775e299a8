"""Fine-tuning an encoder by hard triplets, for classes that are easily taken for each other."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from balancer.comparison.pixel_training import PixelSettings, TileReader, augmented_input
from balancer.comparison.triplets import (
    Mining,
    is_collapsed,
    mine_triplets,
    squared_distances,
    triplet_loss,
)
from balancer.config_fields import Number, PositiveInt, Section
from balancer.embedding.backbones import Backbone
from balancer.imbalance.labels import LabelTable
from balancer.seeding import child_generator, derive_seed
from balancer.types import IntArray


class CollapseWarning(RuntimeWarning):
    """All embeddings have become one point; hardest negatives lead there early in training."""


class TripletSettings(Section):
    """How an encoder is fine-tuned by triplets."""

    margin: Annotated[Number, Field(gt=0)] = 0.2
    mining: Mining = "semi-hard"
    """`hardest` pulls harder, and can collapse all embeddings into one point."""
    normalize: bool = True
    """L2-normalise embeddings first, so that the margin has a scale: squared distances reach 4."""
    classes_per_batch: Annotated[int, Field(ge=2)] = 8
    tiles_per_class: Annotated[int, Field(ge=2)] = 8
    num_updates: PositiveInt = 500
    pixels: PixelSettings = PixelSettings(augment="all")
    """`encoder_lr`, `augment` (`all` or `none`), strengths, normalisation and device are read."""


@dataclass(frozen=True, slots=True)
class TripletHistory:
    """What happened at each update.

    Attributes:
        losses: mean over the triplets; 0 where none was mined.
        num_triplets: mined in the batch.
        collapsed: updates in which all embeddings of the batch were one point.
    """

    losses: tuple[float, ...]
    num_triplets: tuple[int, ...]
    collapsed: int


def finetune_triplets(
    reader: TileReader,
    labels: LabelTable,
    backbone: Backbone,
    settings: TripletSettings,
    *,
    seed: int,
) -> tuple[Backbone, TripletHistory]:
    """Fine-tune a copy of an encoder so that tiles of one class lie nearer than those of others.

    Every batch has the same number of tiles of a few random classes, so rare classes come as often
    as frequent ones; a class with fewer tiles repeats them. Tiles with several labels: a class is a
    distinct set of labels. Classes of one tile give negatives only through other classes, and are
    left out.

    Args:
        reader: gives the tiles of the training part, all of one size.
        labels: of the training part.
        backbone: where the encoder starts from; it is not changed.
        settings: of the training.
        seed: of batches and augmentation.

    Returns:
        The encoder, in evaluation mode, and what happened.

    Raises:
        ValueError: fewer than two classes of two tiles, an encoder_lr of 0, augment `repeats`, a
            loss that is not finite.

    Warns:
        CollapseWarning: once, when all embeddings of a batch are one point.

    Cost: a forward and a backward pass of `classes_per_batch * tiles_per_class` tiles per update.
    """
    groups = _groups(labels)
    if settings.pixels.encoder_lr == 0 or settings.pixels.augment == "repeats":
        raise ValueError(
            f"pixels.encoder_lr must be above 0 and pixels.augment all or none; got "
            f"{settings.pixels.encoder_lr} and {settings.pixels.augment}."
        )
    device = torch.device(settings.pixels.device)
    tuned = copy.deepcopy(backbone).to(device).train()
    adam = torch.optim.Adam(tuned.parameters(), lr=settings.pixels.encoder_lr)
    losses, counts, collapsed = [], [], 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for update in range(settings.num_updates):
            torch.manual_seed(derive_seed(seed, "triplet-dropout", update))
            rng = child_generator(seed, "triplets", update)
            rows, numbers = _draw(groups, settings, rng)
            chosen = np.full(len(rows), settings.pixels.augment == "all")
            images = augmented_input(
                reader(rows), chosen, settings.pixels, derive_seed(seed, "views", update)
            )
            features = tuned(images)
            if is_collapsed(features.detach()):
                collapsed += 1
                if collapsed == 1:
                    warnings.warn(_collapse(settings, update), CollapseWarning, stacklevel=2)
            points = functional.normalize(features) if settings.normalize else features
            squared = squared_distances(points)
            mined = mine_triplets(
                squared.detach(),
                torch.from_numpy(numbers).to(device),
                settings.margin,
                settings.mining,
            )
            counts.append(len(mined))
            if len(mined) == 0:  # nothing is semi-hard in this batch
                losses.append(0.0)
                continue
            loss = triplet_loss(squared, mined, settings.margin).mean()
            if not torch.isfinite(loss):
                raise ValueError(f"The loss must stay finite; got {loss.item()}. Lower encoder_lr.")
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
    return tuned.eval(), TripletHistory(tuple(losses), tuple(counts), collapsed)


def _groups(labels: LabelTable) -> list[IntArray]:
    _, group_of = np.unique(labels.matrix, axis=0, return_inverse=True)
    numbers = group_of.reshape(-1)
    found = [np.flatnonzero(numbers == group) for group in range(int(numbers.max()) + 1)]
    usable = [rows for rows in found if len(rows) > 1]
    if len(usable) < 2:
        raise ValueError(
            f"Triplets must have two classes of two tiles or more; got {len(usable)} of "
            f"{len(found)}. Add tiles."
        )
    return usable


def _draw(
    groups: list[IntArray], settings: TripletSettings, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Draw the rows of a batch and the class of each."""
    count = min(settings.classes_per_batch, len(groups))
    chosen = rng.choice(len(groups), count, replace=False)
    each = settings.tiles_per_class
    rows = [rng.choice(groups[group], each, replace=len(groups[group]) < each) for group in chosen]
    return np.concatenate(rows), np.repeat(chosen, each).astype(np.int64)


def _collapse(settings: TripletSettings, update: int) -> str:
    return (
        f"All embeddings are one point at update {update}, so every triplet's loss is the margin "
        f"({settings.margin:g}) and training stands still. Use semi-hard mining, or lower "
        f"encoder_lr ({settings.pixels.encoder_lr:g})."
    )
