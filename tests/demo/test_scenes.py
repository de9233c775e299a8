"""The demo's scenes: counts of the long tail, determinism, and classes that differ."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from balancer.demo.scenes import (
    CLASSES,
    MIN_TILES_PER_CLASS,
    TILE_SIZE,
    class_counts,
    render_tile,
)
from balancer.seeding import child_generator
from balancer.types import DoubleArray

REQUIRED = {
    "ocean", "cloud", "forest", "field", "desert",
    "urban", "river", "burn_scar", "mine", "storm",
}  # fmt: skip


def describe(kind: str, index: int) -> DoubleArray:
    """Mean colour, contrast, and energy at three scales: (6,) float64."""
    image = render_tile(kind, child_generator(3, kind, index)).astype(np.float64) / 255.0
    grey = image.mean(axis=2)
    power = np.abs(np.fft.rfft2(grey - grey.mean())) ** 2 / grey.size
    radius = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.rfftfreq(64)[None, :]) * 64
    bands = [
        np.log10(power[(radius >= low) & (radius < high)].mean() + 1e-6)
        for low, high in ((1, 4), (4, 12), (12, 32))
    ]
    return np.array([*(image.mean(axis=(0, 1)) * 5), *bands])


def test_shares_sum_to_one_and_are_sorted() -> None:
    shares = [kind.share for kind in CLASSES.values()]
    assert sum(shares) == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(shares))
    assert set(CLASSES) >= REQUIRED


def test_default_counts_have_a_long_tail() -> None:
    counts = class_counts(4500)
    assert sum(counts.values()) == 4500
    assert counts["ocean"] + counts["cloud"] + counts["forest"] >= 0.7 * 4500
    for rare in ("storm", "mine", "burn_scar"):
        assert MIN_TILES_PER_CLASS <= counts[rare] < 0.01 * 4500


@pytest.mark.parametrize("total", [240, 241, 300, 500, 1000, 4500, 20_000])
def test_counts_sum_to_total_and_keep_every_class(total: int) -> None:
    counts = class_counts(total)
    assert sum(counts.values()) == total
    assert min(counts.values()) >= MIN_TILES_PER_CLASS
    assert max(counts, key=lambda name: counts[name]) == "ocean"


def test_too_small_a_total_is_refused() -> None:
    with pytest.raises(ValueError, match=r"total must be at least 240.*got 239"):
        class_counts(239)


def test_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of ocean, cloud.*got 'lava'"):
        render_tile("lava", np.random.default_rng(0))


@pytest.mark.parametrize("kind", list(CLASSES))
def test_tiles_are_deterministic_and_vary(kind: str) -> None:
    tiles = [render_tile(kind, np.random.default_rng(seed)) for seed in range(6)]
    again = [render_tile(kind, np.random.default_rng(seed)) for seed in range(6)]
    assert all(t.shape == (TILE_SIZE, TILE_SIZE, 3) and t.dtype == np.uint8 for t in tiles)
    assert all(np.array_equal(a, b) for a, b in zip(tiles, again, strict=True))
    assert len({t.tobytes() for t in tiles}) == 6
    for tile in tiles:
        assert tile.std() > 1.5, "a tile without any texture"
        assert 5 < tile.mean() < 250, "a tile that is all black or all white"


def test_classes_differ_more_than_chance() -> None:
    """Six plain statistics tell a tile's class far more often than the 1/12 of guessing.

    Far from always, too: the classes are meant to need more than mean colour and contrast.
    """
    kinds, repeats = list(CLASSES), 16
    features = np.array([[describe(kind, i) for i in range(repeats)] for kind in kinds])
    flat = features.reshape(-1, features.shape[-1])
    flat = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    labels = np.repeat(np.arange(len(kinds)), repeats)
    distance = ((flat[:, None, :] - flat[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    right = labels[distance.argmin(axis=1)] == labels
    assert right.mean() > 0.5
    per_class = right.reshape(len(kinds), repeats).mean(axis=1)
    assert per_class.min() > 1 / len(kinds)
