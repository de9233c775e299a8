"""Make tiny archives of seeded tiles in every format, and a fixture for each kind of bad tile."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Write = Callable[[str, bytes], None]
CLASSES = {"forest": 5, "mine": 1, "ocean": 4}
"""Tiles per class: a known imbalance."""


@dataclass(frozen=True)
class MadeTile:
    """One tile: its path in a folder, its file's bytes, its sidecar."""

    name: str
    data: bytes
    sidecar: Mapping[str, Any]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def label(self) -> str:
        return self.name.split("/")[-2]


def make_tiles(seed: int = 0, size: int = 16) -> list[MadeTile]:
    """Return ten tiles of three classes, JPEG and PNG in turn, sorted by name."""
    rng = np.random.default_rng(seed)
    tiles = []
    for label, count in CLASSES.items():
        for index in range(count):
            kind = ("JPEG", "jpg") if index % 2 == 0 else ("PNG", "png")
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            sidecar = {"lon": float(index), "lat": 45.5, "time": "2024-05-01T10:00:00Z"}
            name = f"{label}/{label}_{index:03d}.{kind[1]}"
            tiles.append(MadeTile(name, encode(pixels, kind[0]), sidecar))
    return tiles


def encode(pixels: np.ndarray[Any, Any], kind: str = "PNG", mode: str | None = None) -> bytes:
    """Return an image file of the pixels."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def write_folder(write: Write, tiles: Sequence[MadeTile]) -> None:
    for tile in tiles:
        write(tile.name, tile.data)
        write(f"{tile.stem}.json", json.dumps(tile.sidecar).encode())


def zip_bytes(tiles: Sequence[MadeTile]) -> bytes:
    """Return a zip: JPEGs stored, PNGs and sidecars deflated, a folder entry and Mac leftovers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("forest/", b"")
        archive.writestr("__MACOSX/forest/._forest_000.jpg", b"leftover")
        for tile in reversed(tiles):
            stored = tile.name.endswith(".jpg")
            method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(tile.name, tile.data, method)
            text = json.dumps(tile.sidecar)
            archive.writestr(f"{tile.stem}.json", text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_bytes(tiles: Sequence[MadeTile]) -> bytes:
    """Return a WebDataset shard: image, json and cls (the label) per sample."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for tile in tiles:
            members = {
                tile.name.rpartition(".")[2]: tile.data,
                "json": json.dumps(tile.sidecar).encode(),
                "cls": str(list(CLASSES).index(tile.label)).encode(),
            }
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{tile.stem}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parquet_bytes(tiles: Sequence[MadeTile], *, as_struct: bool = False, group: int = 3) -> bytes:
    """Return a Parquet shard with small row groups; `as_struct` as Hugging Face datasets write."""
    images: list[Any] = [tile.data for tile in tiles]
    if as_struct:
        images = [{"bytes": tile.data, "path": tile.name} for tile in tiles]
    table = pa.table(
        {
            "tile_id": [tile.stem for tile in tiles],
            "image": images,
            "lon": [tile.sidecar["lon"] for tile in tiles],
            "label": [tile.label for tile in tiles],
        }
    )
    buffer = io.BytesIO()
    # Uncompressed, so that a test can find a tile's bytes in the file and damage them.
    pq.write_table(
        table, buffer, row_group_size=group, compression="NONE", write_page_checksum=True
    )
    return buffer.getvalue()


def bad_tiles() -> dict[str, tuple[str, bytes]]:
    """Return (expected reason, bytes) of every kind of unreadable tile, by name."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    jpeg, png = encode(pixels, "JPEG"), encode(pixels, "PNG")
    deep = rng.integers(0, 2**16, (8, 8), dtype=np.uint16)
    bomb = encode(np.zeros((1, 1), np.uint8), "PNG")
    # Width and height of the PNG header, then its checksum.
    header = bomb[12:16] + (10_000).to_bytes(4, "big") * 2 + bomb[24:29]
    bomb = bomb[:12] + header + _crc(header) + bomb[33:]
    return {
        "zero_bytes": ("empty", b""),
        "text": ("not-an-image", b"this is no image at all"),
        "cut_jpeg": ("truncated", jpeg[: len(jpeg) // 2]),
        "cut_png": ("truncated", png[: len(png) // 2]),
        "cut_header": ("truncated", jpeg[:10]),
        "damaged_png": ("corrupt", png[:60] + bytes(40) + png[100:]),
        "grey_16_bit": ("unsupported-mode", encode(deep, "PNG")),
        "rgb_16_bit": ("unsupported-mode", _deep_rgb_png()),
        "float_tiff": ("unsupported-mode", encode(deep.astype(np.float32), "TIFF")),
        "bomb": ("too-large", bomb),
    }


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _deep_rgb_png() -> bytes:
    """Return a 1 x 1 PNG with 16 bits per channel, which PIL cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + _crc(name + data)

    header = (1).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes([0, 1, 2, 3, 4, 5, 6])))
        + chunk(b"IEND", b"")
    )
