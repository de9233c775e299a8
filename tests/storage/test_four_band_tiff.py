"""Four-band 16-bit TIFFs: order of bands, stretch, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from balancer.errors import UnreadableTileError
from balancer.storage.decoding import decode_tile, inspect_tile
from balancer.storage.four_band_tiff import MODE, is_four_band, read_bands, stretch_to_rgb

TILES = Path(__file__).parents[3] / "shared" / "data" / "planet" / "tiles"


def make_tiff(bands: np.ndarray, order: str = "<", compression: int = 1) -> bytes:
    """Write (H, W, 4) uint16 as a baseline TIFF of two strips."""
    height, width = bands.shape[:2]
    pixels = bands.astype(f"{order}u2").tobytes()
    half = len(pixels) // 2
    start = 8 + len(pixels)
    entries = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [16] * 4), (259, 3, [compression]),
        (262, 3, [2]), (273, 4, [8, 8 + half]), (277, 3, [4]),
        (279, 4, [half, len(pixels) - half]), (284, 3, [1]),
    ]  # fmt: skip
    directory, extra = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, kind, values in entries:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", behind + len(extra))
            extra += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    header = mark + struct.pack(f"{order}I", start)
    count = struct.pack(f"{order}H", len(entries))
    return header + pixels + count + directory + bytes(4) + extra


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_samples_in_either_byte_order(order: str) -> None:
    bands = np.arange(4 * 6 * 4, dtype=np.uint16).reshape(4, 6, 4) * 100
    data = make_tiff(bands, order)
    assert is_four_band(data)
    assert read_bands(data).tolist() == bands.tolist()
    assert inspect_tile(data, four_bands=True).mode == MODE


def test_blue_comes_first_in_the_file_and_last_in_rgb() -> None:
    bands = np.zeros((8, 8, 4), np.uint16)
    bands[..., 0] = 60_000  # blue
    bands[..., 3] = 60_000  # near infrared is not shown
    pixels = decode_tile(make_tiff(bands), 8)
    assert pixels.reshape(-1, 3).tolist() == [[0, 0, 255]] * 64


def test_stretch_is_the_same_for_every_tile() -> None:
    bright = stretch_to_rgb(np.full((2, 2, 4), 6600, np.uint16))
    dark = stretch_to_rgb(np.full((2, 2, 4), 2250, np.uint16))
    assert bright[0, 0].tolist() == [255, 191, 127]
    assert dark[0, 0].tolist() == [50, 16, 0]


def test_refusals() -> None:
    bands = np.ones((4, 4, 4), np.uint16)
    with pytest.raises(UnreadableTileError, match=r"unsupported-mode.*compression 1 \(none\)"):
        read_bands(make_tiff(bands, compression=5))
    with pytest.raises(UnreadableTileError, match="not-an-image"):
        read_bands(b"\x89PNG")
    data = make_tiff(bands)
    # An archive that does not expect them quarantines such tiles, as before.
    with pytest.raises(UnreadableTileError, match="unsupported-mode"):
        inspect_tile(data)


@pytest.mark.skipif(not TILES.exists(), reason="real Planet tiles are not here")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_real_tiles_look_like_their_jpegs(number: int) -> None:
    """Clear scenes; the JPEG of a hazy or overexposed scene was stretched by itself."""
    ours = decode_tile((TILES / f"train_{number}.tif").read_bytes(), 256).astype(float)
    theirs = decode_tile((TILES / f"train_{number}.jpg").read_bytes(), 256).astype(float)
    apart = np.abs(ours - theirs).mean()
    assert apart < 12
    assert apart < np.abs(ours[..., ::-1] - theirs).mean()
