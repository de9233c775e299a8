"""The interface of the self-supervised models, and the sign of their collapse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from balancer.embedding.backbones import Backbone


class SelfSupervisedModel(nn.Module):
    """A backbone and what it takes to train it without labels.

    `forward` returns the loss, so that a data-parallel wrapper around the model sees the call and
    can synchronise gradients.

    Attributes:
        backbone: what is kept after training.
        spread: of the features of the latest batch, see `feature_spread`.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.spread = torch.zeros(())

    def forward(self, tiles: Tensor, seed: int) -> Tensor:
        """Return the loss of a batch.

        Args:
            tiles: (B, H, W, 3) uint8, on the model's device, B >= 2.
            seed: of the augmentation; the only source of randomness here.
        """
        return self.batch_loss(tiles, seed)

    def batch_loss(self, tiles: Tensor, seed: int) -> Tensor:
        """Return the loss of (B, H, W, 3) uint8 tiles; to be given by each model."""
        raise NotImplementedError


def feature_spread(features: Tensor) -> Tensor:
    """Return the collapse indicator of (B, D) features: 0 when all rows are parallel.

    `sqrt(D)` times the mean over dimensions of the standard deviation of the L2-normalised
    features; 1 when they point in all directions alike (Chen & He 2021, arXiv 2011.10566, sec. 4).
    """
    rows = nn.functional.normalize(features.detach().float(), dim=1)
    spread: Tensor = rows.std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5
    return spread
