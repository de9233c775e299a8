"""One tile's bytes to pixels, or a reason why not.

PIL raises many types for bad files; every one becomes an `UnreadableTileError` with a short code:
`empty`, `not-an-image`, `truncated`, `corrupt`, `too-large`, `unsupported-mode`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from balancer.config import Resize
from balancer.errors import UnreadableTileError
from balancer.storage import four_band_tiff
from balancer.types import ByteArray

# Also keeps out formats whose decoders call other programs, such as EPS.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000")
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
MAX_TILE_PIXELS = 64 * 2**20
"""8192 x 8192; a tile claiming more is taken for a decompression bomb."""
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", *_TIFF_SIGNATURES)
_LONGEST_CUT_TIFF = 64
_FILTERS = {
    "crop-bilinear": Image.Resampling.BILINEAR,
    "crop-bicubic": Image.Resampling.BICUBIC,
}
# What PIL's decoders are seen to raise for damaged files.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TileFormat:
    """What a tile's file holds: size in pixels and PIL's mode, such as `RGB`."""

    width: int
    height: int
    mode: str


def inspect_tile(data: bytes, *, four_bands: bool = False) -> TileFormat:
    """Decode a tile completely and say what it is.

    Args:
        data: the file's bytes.
        four_bands: whether TIFFs of four 16-bit bands are welcome (`archive.bands: bgrn-16`).

    Raises:
        UnreadableTileError: with the reason.
    """
    if four_bands and four_band_tiff.is_four_band(data):
        width, height = four_band_tiff.four_band_size(data)
        return TileFormat(width, height, four_band_tiff.MODE)
    image = _open(data)
    mode = image.mode
    _load(image, data)
    return TileFormat(image.width, image.height, mode)


def decode_tile(data: bytes, image_size: int, resize: Resize = "stretch") -> ByteArray:
    """Decode a tile to a square of RGB pixels.

    Grey becomes three equal channels, transparency is dropped, CMYK is converted; a rotation in
    EXIF is not applied, because overhead imagery has no upright. TIFFs of four 16-bit bands are
    stretched to RGB as `four_band_tiff` says.

    Args:
        data: the file's bytes.
        image_size: S, the side of the result in pixels.
        resize: `stretch` is bilinear with antialiasing, and large JPEGs are first reduced inside
            the decoder by a power of two. `crop-bilinear` and `crop-bicubic` give the bytes of
            torchvision's `Resize(S)` and `CenterCrop(S)`, without that shortcut.

    Returns:
        (S, S, 3) uint8, C-contiguous.

    Raises:
        UnreadableTileError: with the reason.
    """
    image = _open_rgb(data)
    if resize == "stretch":
        image.draft(None, (image_size, image_size))
    _load(image, data)
    try:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode != "RGB":
            image = image.convert("RGB")
        if resize != "stretch":
            image = _crop_middle(image, image_size, _FILTERS[resize])
        elif image.size != (image_size, image_size):
            image = image.resize(
                (image_size, image_size), Image.Resampling.BILINEAR, reducing_gap=2.0
            )
    except (ValueError, OSError) as error:
        raise UnreadableTileError("corrupt", f"cannot be converted to RGB ({error})") from error
    return np.array(image, dtype=np.uint8)


def _crop_middle(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    if width * height > MAX_TILE_PIXELS:
        raise UnreadableTileError(
            "too-large",
            f"a tile whose short side is {size} must have at most {MAX_TILE_PIXELS} pixels; "
            f"{image.width} x {image.height} would have {width * height}. Cut it into tiles.",
        )
    image = image.resize((width, height), resampling)
    # As torchvision rounds: half a pixel goes to the even neighbour.
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _open_rgb(data: bytes) -> Image.Image:
    # Only archives that said so have four-band tiles in their catalog.
    if four_band_tiff.is_four_band(data):
        return Image.fromarray(four_band_tiff.stretch_to_rgb(four_band_tiff.read_bands(data)))
    return _open(data)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnreadableTileError("empty", "a tile must hold an image; got zero bytes")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableTileError("too-large", str(error)) from error
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_SIGNATURES) and len(data) > _LONGEST_CUT_TIFF:
            raise UnreadableTileError(
                "unsupported-mode", "a TIFF whose bands or data type PIL cannot read"
            ) from error
        if data.startswith(_SIGNATURES):
            raise UnreadableTileError(
                "truncated", f"the header is incomplete ({len(data)} bytes)"
            ) from error
        raise UnreadableTileError(
            "not-an-image", f"no image starts with the bytes {data[:8]!r}"
        ) from error
    except _DAMAGE as error:
        raise UnreadableTileError(
            _reason(error), f"the header cannot be read ({error}; {len(data)} bytes)"
        ) from error
    if image.width * image.height > MAX_TILE_PIXELS:
        raise UnreadableTileError(
            "too-large",
            f"a tile must have at most {MAX_TILE_PIXELS} pixels; got "
            f"{image.width} x {image.height}. Cut it into tiles.",
        )
    if image.mode not in MODES or _is_deep(image):
        raise UnreadableTileError(
            "unsupported-mode",
            f"a tile must have 8 bits per channel in a mode of {', '.join(sorted(MODES))}; "
            f"got {image.mode}{' of 16 bits' if _is_deep(image) else ''}. Convert it to 8-bit RGB.",
        )
    return image


def _is_deep(image: Image.Image) -> bool:
    # PIL silently keeps the upper byte of 16-bit RGB; only the raw mode of its tiles tells.
    return any(";16" in str(part[-1]) for part in getattr(image, "tile", []))


def _load(image: Image.Image, data: bytes) -> None:
    try:
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableTileError("too-large", str(error)) from error
    except _DAMAGE as error:
        raise UnreadableTileError(_reason(error), f"{error} ({len(data)} bytes)") from error


def _reason(error: Exception) -> str:
    cut = isinstance(error, (EOFError, IndexError)) or "truncated" in str(error).lower()
    return "truncated" if cut else "corrupt"
