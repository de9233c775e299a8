from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from balancer.config import Resize
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


def test_stretching_shows_the_whole_of_a_long_tile_and_cropping_its_middle() -> None:
    # Columns of 0, 100 and 200 in 1 : 2 : 1, 16 x 8: the middle square is the middle column.
    long = np.repeat(np.array([0, 100, 200], np.uint8), [4, 8, 4])[None, :, None]
    data = encode(np.broadcast_to(long, (8, 16, 3)).copy())
    assert decode_tile(data, 8)[0, [0, 7], 0].tolist() == [0, 200]
    for resize in ("crop-bilinear", "crop-bicubic"):
        assert (decode_tile(data, 8, resize) == 100).all()
    high = np.broadcast_to(long.transpose(1, 0, 2), (16, 8, 3)).copy()
    assert (decode_tile(encode(high), 8, "crop-bicubic") == 100).all()


def test_cropping_by_hand() -> None:
    """A step from 100 to 200 at column 11 of 24 x 16, halved to 12 x 8, columns 2 to 9 taken.

    Column x lies between the pixels 2x and 2x + 1. The triangle, stretched to 2, weighs 1, 3, 3, 1
    of 8; the cubic (a = -1/2), stretched to 4, -6, -18, 58, 222 of 512 and mirrored.
    """
    step = np.full((16, 24, 3), 100, np.uint8)
    step[:, 11:] = 200
    data = encode(step)
    linear = [100, 100, 100, 150, 200, 200, 200, 200]  # column 5: half of the weights
    assert decode_tile(data, 8, "crop-bilinear")[4, :, 0].tolist() == linear
    # Columns 4 and 6 have the outer two on the other side: 100 - 24 / 5.12, 200 + 24 / 5.12.
    cubic = [100, 100, 95, 150, 205, 200, 200, 200]
    assert decode_tile(data, 8, "crop-bicubic")[4, :, 0].tolist() == cubic


@pytest.mark.parametrize("resize", ["crop-bilinear", "crop-bicubic"])
@pytest.mark.parametrize("shape", [(37, 53), (64, 31), (16, 16), (19, 17), (9, 40)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cropping_gives_torchvisions_bytes(
    resize: Resize, shape: tuple[int, int], kind: str
) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode
    from torchvision.transforms import Resize as ShortSide

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    data = encode(pixels, kind)
    mode = InterpolationMode(resize.removeprefix("crop-"))
    wanted = Compose([ShortSide(16, mode), CenterCrop(16)])(Image.open(BytesIO(data)))
    assert np.array_equal(decode_tile(data, 16, resize), np.array(wanted))


def test_a_strip_that_would_become_huge_is_refused() -> None:
    strip = encode(np.zeros((1, 2000, 3), np.uint8))
    assert decode_tile(strip, 64).shape == (64, 64, 3)
    with pytest.raises(UnreadableTileError, match="2000 x 1 would have 131072000"):
        decode_tile(strip, 256, "crop-bicubic")
