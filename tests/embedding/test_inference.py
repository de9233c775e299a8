from __future__ import annotations

import numpy as np
import pytest
import torch

from balancer.config import EncoderConfig
from balancer.embedding.backbones import Backbone, build_backbone
from balancer.embedding.inference import embed_tiles
from balancer.embedding.transforms import to_input
from balancer.embedding.weights import state_to_numpy
from balancer.types import ByteArray, FloatArray

HALF = (0.5, 0.5, 0.5)


def _tiles(count: int) -> ByteArray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(EncoderConfig(width=8, image_size=16))


def _embed(backbone: Backbone, tiles: ByteArray, batch_size: int) -> FloatArray:
    return embed_tiles(backbone, tiles, batch_size=batch_size, mean=HALF, std=HALF)


def test_rows_are_the_features_in_order(backbone: Backbone) -> None:
    tiles = _tiles(7)
    rows = _embed(backbone, tiles, 3)
    assert rows.shape == (7, backbone.dim)
    assert rows.dtype == np.float32
    backbone.eval()
    with torch.no_grad():
        expected = backbone(to_input(tiles, HALF, HALF)).numpy()
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


def test_a_row_does_not_depend_on_how_full_its_batch_is(backbone: Backbone) -> None:
    tiles = _tiles(8)
    whole = _embed(backbone, tiles, 8)
    for count in (1, 3, 5):
        assert np.array_equal(_embed(backbone, tiles[:count], 8), whole[:count])


def test_embedding_changes_no_bit_of_the_encoder() -> None:
    backbone = build_backbone(EncoderConfig(width=8, image_size=16))
    backbone.train()
    before = state_to_numpy(backbone)
    _embed(backbone, _tiles(10), 4)
    after = state_to_numpy(backbone)
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert backbone.training


def test_no_tiles_give_no_rows(backbone: Backbone) -> None:
    assert _embed(backbone, _tiles(0), 4).shape == (0, backbone.dim)


def test_nan_is_passed_on() -> None:
    broken = build_backbone(EncoderConfig(width=8, image_size=16))
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    assert np.isnan(_embed(broken, _tiles(2), 4)).any()


def test_batch_size_must_be_positive(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1\. Got 0"):
        _embed(backbone, _tiles(2), 0)
