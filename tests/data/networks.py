"""Networks that the tests name as frozen encoders (`encoder.factory`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def projection() -> nn.Module:
    """Project the pixels on six random directions."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6))


class _DarkIsNan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = projection()

    def forward(self, images: Tensor) -> Tensor:
        dark = images.mean(dim=(1, 2, 3)) < -0.8
        vectors: Tensor = self.inner(images)
        return torch.where(dark[:, None], torch.nan, vectors)


def dark_is_nan() -> nn.Module:
    """Fail for tiles that are almost black."""
    return _DarkIsNan()


class _NearlyConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = projection()

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = 1 + 1e-3 * self.inner(images)
        return vectors


def nearly_constant() -> nn.Module:
    """Give almost the same vector to every tile: a collapsed encoder."""
    return _NearlyConstant()
