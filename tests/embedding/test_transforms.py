from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from balancer.embedding.lightly_views import LightlyViews
from balancer.embedding.transforms import (
    OverheadViews,
    color_factors,
    crop_and_symmetry,
    to_input,
)
from balancer.types import ByteArray

HALF = (0.5, 0.5, 0.5)
PLAIN = OverheadViews(4, crop_min_scale=1.0, color_strength=0.0, mean=(0, 0, 0), std=(1, 1, 1))


def _tiles(count: int, size: int, seed: int = 0) -> ByteArray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, size // 4, size // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def test_to_input_is_the_normalised_tile_channels_first() -> None:
    tiles = np.zeros((1, 1, 2, 3), np.uint8)
    tiles[0, 0, 1] = (51, 102, 255)
    got = to_input(tiles, (0.0, 0.4, 0.5), (1.0, 0.2, 0.25))
    assert got.shape == (1, 3, 1, 2)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got[0, :, 0, 1], torch.tensor([0.2, 0.0, 2.0]))


@pytest.mark.parametrize(
    "tiles", [np.zeros((2, 3, 4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.float32)]
)
def test_to_input_refuses_other_shapes_and_types(tiles: ByteArray) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, H, W, 3\) uint8. Got"):
        to_input(tiles, HALF, HALF)


def test_without_crop_and_color_a_view_is_one_of_eight_symmetries_and_all_occur() -> None:
    tile = _tiles(1, 4)[0].copy()
    tile[:, :, 0] = np.arange(16).reshape(4, 4)
    views = PLAIN.single(np.stack([tile] * 256), seed=3)
    image = torch.from_numpy(tile).permute(2, 0, 1).float() / 255
    turns = [torch.rot90(image, k, (1, 2)) for k in range(4)]
    symmetries = torch.stack(turns + [turn.flip(2) for turn in turns])
    error = (views[:, None] - symmetries[None]).abs().amax(dim=(2, 3, 4))
    assert float(error.min(dim=1).values.max()) < 1e-5
    counts = torch.bincount(error.argmin(dim=1), minlength=8)
    assert int(counts.min()) > 10  # 32 expected


def test_crops_have_the_asked_area_and_aspect_and_stay_inside() -> None:
    maps = crop_and_symmetry(4096, 0.3, torch.Generator().manual_seed(0))
    size = maps[:, :, :2].abs().amax(dim=2)  # (width, height) shares of the tile
    centre = maps[:, :, 2]
    area = size.prod(dim=1)
    assert float(area.min()) >= 0.3 - 1e-5
    assert float(area.max()) <= 1 + 1e-5
    ratio = size[:, 0] / size[:, 1]
    assert float(ratio.max()) <= 4 / 3 + 1e-5
    assert float(ratio.min()) >= 3 / 4 - 1e-5
    assert float((centre.abs() + size).max()) <= 1 + 1e-5


def test_color_is_unchanged_for_a_fifth_and_within_bounds_for_the_rest() -> None:
    factors = torch.stack(color_factors(5000, 0.25, torch.Generator().manual_seed(0)))
    assert 0.17 < float((factors == 1).all(dim=0).float().mean()) < 0.23
    assert float(factors.min()) >= 0.8
    assert float(factors.max()) <= 1.2


def test_views_come_from_the_seed_alone_and_leave_the_global_generator() -> None:
    views = OverheadViews(32)
    tiles = _tiles(8, 32)
    before = torch.get_rng_state()
    first, second = views(tiles, 7)
    torch.manual_seed(99)
    again, _ = views(tiles, 7)
    other, _ = views(tiles, 8)
    torch.set_rng_state(before)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    views(tiles, 7)
    assert torch.equal(before, torch.get_rng_state())


def _statistics(views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average colour, contrast, and some pixels, each (B, values)."""
    return views.mean((2, 3)), views.std((2, 3)), views[:, :, ::8, 5].flatten(1)


@pytest.mark.parametrize(("scale", "strength"), [(0.3, 0.3), (0.3, 0.0), (1.0, 0.6)])
def test_distribution_agrees_with_lightly(scale: float, strength: float) -> None:
    """Mean and spread over many draws of one tile's pixels and of its average colour."""
    tile = _tiles(1, 32, seed=4)
    tiles = tile.repeat(600, axis=0)
    views = OverheadViews(32, crop_min_scale=scale, color_strength=strength)
    mine = torch.cat(views(tiles, 0))
    theirs = torch.cat(LightlyViews(views)(tiles, 0))
    assert mine.shape == theirs.shape
    for a, b in zip(_statistics(mine), _statistics(theirs), strict=True):
        error = ((a.std(0) ** 2 + b.std(0) ** 2) / len(a)).sqrt() + 1e-3
        assert float(((a.mean(0) - b.mean(0)).abs() / error).max()) < 4.5
        torch.testing.assert_close(a.std(0), b.std(0), rtol=0.15, atol=0.01)


def test_tiles_larger_than_the_view_are_resampled() -> None:
    first, second = OverheadViews(16)(_tiles(2, 32), 0)
    assert first.shape == second.shape == (2, 3, 16, 16)
