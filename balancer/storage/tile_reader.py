"""Read cataloged tiles back: few range requests, every tile's bytes checked against its digest."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa

from balancer.errors import DataError, UnreadableTileError
from balancer.storage.containers import inflate
from balancer.storage.filesystem import Store
from balancer.storage.parquet_tiles import read_rows
from balancer.storage.range_reads import read_merged
from balancer.types import IntArray

TileBytes = bytes | UnreadableTileError
_COLUMNS = ("uri", "member", "offset", "num_bytes", "codec", "sha256")


def read_tiles(
    store: Store, table: pa.Table, *, indices: Sequence[int] | IntArray | None = None
) -> Iterator[tuple[int, TileBytes]]:
    """Read the bytes of cataloged tiles.

    A tile whose bytes differ from the catalog is read once more, and then given as an error with
    the reason `changed`, so that one bad tile does not stop a shard.

    Args:
        store: where to read.
        table: a catalog, or any table with its columns, such as a manifest.
        indices: rows to read; all when absent.

    Yields:
        (row of `table`, bytes or error): Parquet tiles last, else ordered by uri and offset.

    Raises:
        DataError: a container does not exist any more.
        StorageError: the store refuses or fails.

    Cost: about one request per 8 MiB of a container, one per tile for plain files, one per column
    chunk for Parquet; at most 64 MiB of tiles (for Parquet one row group) in memory.
    """
    rows = range(table.num_rows) if indices is None else [int(index) for index in indices]
    picked = table.select(list(_COLUMNS)).take(pa.array(rows, pa.int64()))
    tiles = [_Located(*values) for values in zip(*picked.to_pydict().values(), strict=True)]
    plain = [i for i, tile in enumerate(tiles) if tile.codec != "parquet"]
    ranges = [(tiles[i].uri, tiles[i].offset, tiles[i].num_bytes) for i in plain]
    for position, data in read_merged(store, ranges):
        index = plain[position]
        yield rows[index], _checked(store, tiles[index], data)
    in_parquet: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, tile in enumerate(tiles):
        if tile.codec == "parquet":
            in_parquet[tile.uri, tile.member].append(i)
    for (uri, column), inside in in_parquet.items():
        by_row: dict[int, list[int]] = defaultdict(list)
        for i in inside:
            by_row[tiles[i].offset].append(i)
        for row, data in read_rows(store, uri, column, sorted(by_row)):
            for i in by_row[row]:
                yield rows[i], data if _matches(tiles[i], data) else _changed(tiles[i])


class _Located:
    """One row of the catalog."""

    __slots__ = _COLUMNS

    def __init__(
        self, uri: str, member: str, offset: int, num_bytes: int, codec: str, sha256: str
    ) -> None:
        self.uri = uri
        self.member = member
        self.offset = offset
        self.num_bytes = num_bytes
        self.codec = codec
        self.sha256 = sha256


def _checked(store: Store, tile: _Located, stored: bytes | None) -> TileBytes:
    if stored is None:
        return _missing(tile)
    try:
        data = _decoded(tile, stored)
        if _matches(tile, data):
            return data
    except UnreadableTileError:
        pass
    # A bit may have flipped on the way; one more read tells that from a changed file.
    try:
        data = _decoded(tile, store.read_bytes(tile.uri, tile.offset, tile.num_bytes))
    except FileNotFoundError:
        return _missing(tile)
    except UnreadableTileError:
        return _changed(tile)
    return data if _matches(tile, data) else _changed(tile)


def _decoded(tile: _Located, stored: bytes) -> bytes:
    return inflate(stored) if tile.codec == "deflate" else stored


def _matches(tile: _Located, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == tile.sha256


def _missing(tile: _Located) -> UnreadableTileError:
    if tile.member:
        raise DataError(
            f"{tile.uri} was cataloged but does not exist any more. Restore it, or start a run "
            f"with another --out for the archive as it is now."
        )
    return UnreadableTileError("changed", f"{tile.uri} was cataloged but does not exist any more")


def _changed(tile: _Located) -> UnreadableTileError:
    return UnreadableTileError(
        "changed", f"{tile.uri} {tile.member} no longer has the bytes that were cataloged"
    )
