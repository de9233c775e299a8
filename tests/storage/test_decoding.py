from __future__ import annotations

import numpy as np
import pytest

from balancer.errors import UnreadableTileError
from balancer.storage.decoding import TileFormat, decode_tile, inspect_tile
from tests.data.make_tiles import bad_tiles, encode

PIXELS = np.full((20, 30, 3), (200, 100, 50), np.uint8)


@pytest.mark.parametrize("name", bad_tiles())
def test_bad_tiles_have_their_reason(name: str) -> None:
    reason, data = bad_tiles()[name]
    for read in (inspect_tile, lambda data: decode_tile(data, 8)):
        with pytest.raises(UnreadableTileError) as caught:
            read(data)
        assert caught.value.reason == reason, caught.value.detail
        assert caught.value.detail


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_where_pil_only_warns() -> None:
    with pytest.raises(UnreadableTileError, match="at most 67108864 pixels; got 10000 x 10000"):
        inspect_tile(bad_tiles()["bomb"][1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [8, 20, 64])
def test_every_mode_becomes_square_rgb(mode: str, size: int) -> None:
    data = encode(PIXELS, "PNG", mode)
    pixels = decode_tile(data, size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert inspect_tile(data) == TileFormat(30, 20, mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_colours_survive(kind: str) -> None:
    pixels = decode_tile(encode(PIXELS, kind), 16)
    assert np.abs(pixels.astype(int) - PIXELS[0, 0]).max() <= 6


def test_cmyk_is_converted() -> None:
    data = encode(PIXELS, "JPEG", "CMYK")
    assert inspect_tile(data).mode == "CMYK"
    assert np.abs(decode_tile(data, 16).astype(int) - PIXELS[0, 0]).max() <= 6


def test_reducing_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for kind in ("PNG", "JPEG"):
        pixels = decode_tile(encode(stripes, kind), 8)
        assert np.abs(pixels.astype(int) - 127).max() <= 8


def test_same_size_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(decode_tile(encode(pixels), 16), pixels)
