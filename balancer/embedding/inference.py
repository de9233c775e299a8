"""Embedding tiles with a backbone, without training it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from balancer.embedding.backbones import Backbone
from balancer.embedding.transforms import to_input
from balancer.types import ByteArray, FloatArray


def embed_tiles(
    backbone: Backbone,
    tiles: ByteArray,
    *,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> FloatArray:
    """Embed tiles in batches of exactly `batch_size`.

    The last batch is filled up with zero tiles, so a row does not depend on how many tiles the
    shard has left. Measured on CPUs (small-conv and ResNet-18): a row's bits are the same for every
    batch size from 7 to 256, whatever else is in the batch and for one or two threads, but differ
    by up to 3e-3 relative in a batch of one, which takes another convolution kernel; on GPUs the
    kernel may change with any batch size.

    Args:
        backbone: put into evaluation mode while it runs, and back after; never changed.
        tiles: (N, S, S, 3) uint8.
        batch_size: tiles in one forward pass.
        mean: per channel, as in training.
        std: per channel, as in training.
        device: where `backbone` lies.

    Returns:
        (N, D) float32, neither normalised nor checked: NaN is the caller's to find.

    Raises:
        ValueError: tiles are not (N, S, S, 3) uint8, or batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(
            f"The 'batch_size' parameter must be at least 1. Got {batch_size} instead."
        )
    if len(tiles) == 0:
        return np.empty((0, backbone.dim), dtype=np.float32)
    return embed_images(
        backbone,
        (
            to_input(_padded(tiles[start : start + batch_size], batch_size), mean, std, device)
            for start in range(0, len(tiles), batch_size)
        ),
    )[: len(tiles)]


def _padded(tiles: ByteArray, batch_size: int) -> ByteArray:
    missing = batch_size - len(tiles)
    if missing == 0:
        return tiles
    return np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), dtype=tiles.dtype)])


def embed_images(backbone: Backbone, batches: Iterable[Tensor]) -> FloatArray:
    """Return the features of batches of (B, 3, S, S) network input, one after the other."""
    training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            features = [backbone(images).float().cpu().numpy() for images in batches]
    finally:
        backbone.train(training)
    return np.concatenate(features).astype(np.float32, copy=False)
