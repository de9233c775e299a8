"""Four-band 16-bit TIFFs (blue, green, red, near infrared), which PIL does not read, to RGB.

PlanetScope's analytic tiles, as in "Planet: Understanding the Amazon from Space", are baseline
TIFFs: uncompressed strips, bands interleaved by pixel. Only these are read; anything else is
refused by name, because a compressed or tiled file is better converted than half understood.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from balancer.errors import UnreadableTileError
from balancer.types import ByteArray

MODE = "BGRN;16"
"""What the catalog says of such a tile, in the place of PIL's mode."""
NUM_BANDS = 4
RED, GREEN, BLUE = 2, 1, 0
STRETCH = {RED: (1200, 6600), GREEN: (1850, 8200), BLUE: (2250, 11000)}
"""Values that become 0 and 255, per band. The same for every tile, so that haze and cloud stay
brighter than clear ground; least squares of published pairs of such TIFFs and their JPEGs (clear
scenes, rounded). The JPEGs of hazy scenes were stretched by scene and look different."""
_TYPES = {3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS = 256, 257, 258, 259, 273
_SAMPLES, _LENGTHS, _PLANAR, _TILED, _FORMAT = 277, 279, 284, 324, 339
_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


@dataclass(frozen=True, slots=True)
class _Header:
    order: str
    fields: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int) -> int:
        return self.fields.get(tag, (default,))[0]


def is_four_band(data: bytes) -> bool:
    """Tell whether a file is a TIFF of four 16-bit bands, by its header alone.

    >>> is_four_band(b"no TIFF")
    False
    """
    try:
        header = _read_header(data)
    except UnreadableTileError:
        return False
    return header is not None and header.fields.get(_BITS, ()) == (16,) * NUM_BANDS


def four_band_size(data: bytes) -> tuple[int, int]:
    """Return width and height after reading every sample, as `inspect_tile` promises.

    Raises:
        UnreadableTileError: with the reason.
    """
    height, width = read_bands(data).shape[:2]
    return width, height


def read_bands(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Return the (H, W, 4) uint16 samples in the file's order: blue, green, red, near infrared.

    Raises:
        UnreadableTileError: `unsupported-mode` for compressed, tiled or planar files, `truncated`
            for a short one.
    """
    header = _read_header(data)
    if header is None:
        raise UnreadableTileError("not-an-image", f"no TIFF starts with the bytes {data[:4]!r}")
    found = {
        "compression 1 (none)": header.one(_COMPRESSION, 1) == 1,
        "bands interleaved by pixel": header.one(_PLANAR, 1) == 1,
        "strips, not tiles": _TILED not in header.fields,
        "unsigned integers": header.one(_FORMAT, 1) == 1,
        "four samples of 16 bits": header.one(_SAMPLES, 1) == NUM_BANDS
        and header.fields.get(_BITS, ()) == (16,) * NUM_BANDS,
    }
    lacking = [name for name, holds in found.items() if not holds]
    if lacking:
        raise UnreadableTileError(
            "unsupported-mode",
            f"a four-band TIFF must have {', '.join(lacking)}; this one has not. Convert it, for "
            f"example with gdal_translate -co COMPRESS=NONE -co INTERLEAVE=PIXEL",
        )
    width, height = header.one(_WIDTH, 0), header.one(_HEIGHT, 0)
    strips = zip(header.fields.get(_OFFSETS, ()), header.fields.get(_LENGTHS, ()), strict=False)
    content = b"".join(data[offset : offset + length] for offset, length in strips)
    expected = width * height * NUM_BANDS * 2
    if expected == 0 or len(content) < expected:
        raise UnreadableTileError(
            "truncated", f"{width} x {height} samples need {expected} bytes; got {len(content)}"
        )
    samples = np.frombuffer(content[:expected], f"{header.order}u2")
    return samples.reshape(height, width, NUM_BANDS).astype(np.uint16, copy=False)


def stretch_to_rgb(bands: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> ByteArray:
    """Return (H, W, 3) uint8 red, green, blue: each band stretched linearly by `STRETCH`, clipped.

    >>> pixel = np.array([[[2250, 8200, 3900, 9999]]], np.uint16)
    >>> stretch_to_rgb(pixel).tolist()
    [[[128, 255, 0]]]
    """
    channels = []
    for band in (RED, GREEN, BLUE):
        low, high = STRETCH[band]
        scaled = (bands[..., band].astype(np.float32) - low) * np.float32(255 / (high - low))
        channels.append(np.clip(np.rint(scaled), 0, 255))
    return np.ascontiguousarray(np.stack(channels, axis=-1).astype(np.uint8))


def _read_header(data: bytes) -> _Header | None:
    order = _ORDERS.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        fields = {}
        for index in range(count):
            at = start + 2 + 12 * index
            tag, kind, number = struct.unpack_from(f"{order}HHI", data, at)
            code = _TYPES.get(kind)
            if code is None or number > len(data):
                continue
            size = struct.calcsize(f"{order}{number}{code}")
            where = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, at + 8)[0]
            fields[tag] = struct.unpack_from(f"{order}{number}{code}", data, where)
    except struct.error as error:
        raise UnreadableTileError("truncated", f"the TIFF's directory ({error})") from error
    return _Header(order, fields)
