"""Batched views against lightly's transform: alternating, medians of five pairs.

make bench      (or: pytest tests/benchmarks/test_augmentation.py -s)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from balancer.embedding.lightly_views import LightlyViews
from balancer.embedding.transforms import OverheadViews
from balancer.types import ByteArray

BATCH, PAIRS = 256, 5


Views = Callable[[ByteArray, int], tuple[Tensor, Tensor]]


def _seconds(views: Views, tiles: ByteArray, seed: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    views(tiles, seed)
    return time.perf_counter() - wall, time.process_time() - cpu


def test_views_per_second() -> None:
    torch.set_num_threads(1)
    tiles = np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), dtype=np.uint8)
    batched = OverheadViews(image_size=64, color_strength=0.1)
    peers: dict[str, Views] = {"batched": batched, "lightly": LightlyViews(batched)}
    for views in peers.values():
        views(tiles, 0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for pair in range(PAIRS):
        for name, views in peers.items():
            times[name].append(_seconds(views, tiles, pair))
    wall = {name: statistics.median(w for w, _ in found) for name, found in times.items()}
    cpu = {name: statistics.median(c for _, c in found) for name, found in times.items()}
    for name in peers:
        print(f"{name}: {BATCH / wall[name]:.0f} tiles/s wall, {BATCH / cpu[name]:.0f} tiles/s CPU")
    print(
        f"ratio: wall {wall['lightly'] / wall['batched']:.1f}, "
        f"CPU {cpu['lightly'] / cpu['batched']:.1f}"
    )
