"""Backbone factories that the tests name in configurations."""

from __future__ import annotations

from torch import Tensor, nn


def flat_linear(dim: int = 6, size: int = 16) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, dim))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 16 * 16, 6))


def not_a_module() -> str:
    return "network"


def unpooled() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def failing() -> nn.Module:
    raise FileNotFoundError("weights.bin")
