"""Seeded samples for the report: which tiles to show, their thumbnails, their projection."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from PIL import Image

from balancer.errors import DataError, UnreadableTileError
from balancer.report.content import ClusterSheet, Thumbnail
from balancer.report.tile_table import TileTable
from balancer.storage.decoding import decode_tile
from balancer.storage.filesystem import Store
from balancer.storage.tile_reader import read_tiles
from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray, UInt64Array

MAX_SHEETS = 24
TILES_PER_STRIP = 16
"""Picked tiles shown per cluster at most; as many not picked."""
THUMBNAIL_SIZE = 80
"""Pixels; noise, the worst case, then keeps the page under 6 MB of thumbnails."""
JPEG_QUALITY = 80


def lowest(order: UInt64Array, rows: IntArray, n: int) -> IntArray:
    """Return the `n` of `rows` with the lowest hashes, lowest first.

    >>> lowest(np.array([5, 1, 9, 2], dtype=np.uint64), np.array([0, 1, 3]), 2)
    array([1, 3])
    """
    return rows[np.argsort(order[rows], kind="stable")[:n]]


def spread_over(sizes: IntArray, n: int) -> IntArray:
    """Return at most `n` groups, largest first, evenly spaced in the order of their sizes.

    Empty groups are left out. The largest and the smallest are always among them.

    >>> spread_over(np.array([5, 9, 0, 7, 1]), 3)
    array([1, 3, 4])
    """
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    if len(order) <= n:
        return order
    return order[np.linspace(0, len(order) - 1, n).astype(np.int64)]


def contact_sheets(store: Store, tiles: TileTable) -> tuple[tuple[ClusterSheet, ...], str]:
    """Make the contact sheets of up to `MAX_SHEETS` clusters.

    Returns:
        The sheets, and a warning where tiles could not be read any more, else an empty text.

    Cost: up to 768 tiles, read with few requests and decoded one at a time.
    """
    sizes = np.bincount(tiles.cluster[tiles.cluster >= 0], minlength=1)
    strips: dict[int, tuple[IntArray, IntArray]] = {}
    for cluster in spread_over(sizes, MAX_SHEETS).tolist():
        rows = np.flatnonzero(tiles.cluster == cluster)
        strips[cluster] = (
            lowest(tiles.order, rows[tiles.picked[rows]], TILES_PER_STRIP),
            lowest(tiles.order, rows[~tiles.picked[rows]], TILES_PER_STRIP),
        )
    wanted = [row for pair in strips.values() for strip in pair for row in strip.tolist()]
    jpegs, warning = _thumbnails(store, tiles.places, wanted)

    def strip(rows: IntArray) -> tuple[Thumbnail, ...]:
        return tuple(
            Thumbnail(
                str(tiles.ids[row]),
                jpegs[row],
                "" if tiles.labels is None else str(tiles.labels[row]),
            )
            for row in rows.tolist()
            if row in jpegs
        )

    return tuple(
        ClusterSheet(
            cluster,
            int(sizes[cluster]),
            int((tiles.picked & (tiles.cluster == cluster)).sum()),
            strip(picked),
            strip(dropped),
        )
        for cluster, (picked, dropped) in strips.items()
    ), warning


def thumbnail(data: bytes, size: int) -> bytes:
    """Return a tile as a small JPEG.

    Raises:
        UnreadableTileError: with the reason.
    """
    buffer = io.BytesIO()
    Image.fromarray(decode_tile(data, size)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def project(vectors: FloatArray, fit: BoolArray) -> tuple[DoubleArray, tuple[float, float]]:
    """Project on the two directions of largest variance (principal component analysis).

    The sign of each axis is fixed by its largest coefficient, so that it does not depend on the
    linear-algebra library.

    Args:
        vectors: (N, D) float32, N >= 1.
        fit: (N,) rows that the directions are fitted to.

    Returns:
        (N, 2) points, and the share of the variance on each axis.

    Cost: O(N D min(N, D)) time.
    """
    rows = vectors.astype(np.float64)
    center = rows[fit].mean(axis=0)
    _, singular, directions = np.linalg.svd(rows[fit] - center, full_matrices=False)
    axes = np.zeros((2, rows.shape[1]))
    axes[: len(directions)] = directions[:2]
    signs = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    axes *= np.where(signs == 0, 1.0, signs)[:, None]
    variance = np.zeros(2)
    variance[: len(singular)] = singular[:2] ** 2
    total = float((singular**2).sum()) or 1.0
    return (rows - center) @ axes.T, (float(variance[0] / total), float(variance[1] / total))


def sample_rows(tiles: TileTable, rows: IntArray, num_rows: int, num_picked: int) -> IntArray:
    """Sample `num_rows` of `rows`, and as many as `num_picked` of the picked ones; sorted."""
    plain = lowest(tiles.order, rows, num_rows)
    return np.union1d(plain, lowest(tiles.order, rows[tiles.picked[rows]], num_picked))


def _thumbnails(
    store: Store, places: pa.Table, rows: Sequence[int]
) -> tuple[dict[int, bytes], str]:
    sizes = np.maximum(places["width"].to_numpy(), places["height"].to_numpy())
    jpegs: dict[int, bytes] = {}
    unreadable = 0
    try:
        for row, data in read_tiles(store, places, indices=rows):
            if isinstance(data, UnreadableTileError):
                unreadable += 1
                continue
            # Small tiles are shown as they are, never enlarged.
            jpegs[row] = thumbnail(data, min(THUMBNAIL_SIZE, int(sizes[row])))
    except DataError as error:
        return jpegs, f"Not all thumbnails could be made: {error}"
    if unreadable:
        return jpegs, (
            f"{unreadable} of {len(rows)} tiles for the contact sheets no longer have the bytes "
            f"that were cataloged and are left out."
        )
    return jpegs, ""
