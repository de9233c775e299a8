"""Small coloured tiles of three classes, and the encoder that learns them in seconds."""

from __future__ import annotations

import numpy as np

from balancer.comparison.pixel_training import TileReader
from balancer.config import EncoderConfig
from balancer.embedding.backbones import Backbone, build_backbone
from balancer.imbalance.labels import LabelTable
from balancer.selection.farthest_point import row_ids
from balancer.types import ByteArray, IntArray

COLORS = np.array([[150, 90, 90], [90, 150, 90], [90, 90, 150]])


def made_tiles(*sizes: int, seed: int = 0) -> tuple[TileReader, LabelTable]:
    """Return a reader of 16 px tiles, so many of each class, and their labels."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    noise = rng.normal(0, 40, size=(len(numbers), 16, 16, 3))
    tiles = np.clip(COLORS[numbers][:, None, None] + noise, 0, 255).astype(np.uint8)

    def read(rows: IntArray) -> ByteArray:
        return tiles[rows]

    matrix = np.eye(len(sizes), dtype=np.bool_)[numbers]
    names = ("red", "green", "blue")[: len(sizes)]
    return read, LabelTable(row_ids(len(numbers)), names, matrix)


def made_backbone() -> Backbone:
    return build_backbone(EncoderConfig(backbone="small-conv", width=4, image_size=16), seed=0)
