"""Decoded tiles for training, in batches that mix shards.

Tiles are decoded into a pool of at most `pool_tiles`; each epoch walks a seeded permutation of the
groups, fills the pool, and cuts batches from a permutation of the pool. When everything fits into
one pool it is decoded once and only permuted again. A batch from one scene makes SimCLR learn the
scene's colour instead of what is in it (torchgeo#3548), hence the mixing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from balancer.errors import DataError, UnreadableTileError
from balancer.seeding import child_generator
from balancer.storage.decoding import decode_tile
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.storage.tile_reader import TileBytes, read_tiles
from balancer.types import ByteArray, IntArray


@dataclass(frozen=True, slots=True)
class TileGroup:
    """Some rows of a catalog shard or manifest: what a training worker reads at once.

    Attributes:
        uri: the table.
        sha256: of the table's file.
        rows: row numbers.
    """

    uri: str
    sha256: str
    rows: IntArray


def split_groups(groups: Sequence[TileGroup], count: int) -> tuple[TileGroup, ...]:
    """Halve the largest groups until there are `count`, so that every worker gets one.

    Raises:
        DataError: fewer tiles than `count`.
    """
    found = list(groups)
    while len(found) < count:
        largest = max(range(len(found)), key=lambda number: len(found[number].rows))
        group = found[largest]
        if len(group.rows) < 2:
            raise DataError(
                f"Training on {count} workers needs at least as many tiles; got {len(found)}. "
                f"Use fewer training.num_workers, with another --out."
            )
        middle = len(group.rows) // 2
        halves = [
            replace(group, rows=group.rows[:middle]),
            replace(group, rows=group.rows[middle:]),
        ]
        found[largest : largest + 1] = halves
    return tuple(found)


def decode_rows(
    store: Store, table: pa.Table, rows: IntArray | None, image_size: int
) -> tuple[ByteArray, IntArray, list[tuple[int, UnreadableTileError]]]:
    """Read and decode tiles.

    Returns:
        (n, S, S, 3) uint8 tiles in row order, their (n,) row numbers, and the rows that failed.
    """

    def decode(item: tuple[int, TileBytes]) -> tuple[int, ByteArray | UnreadableTileError]:
        row, data = item
        if isinstance(data, UnreadableTileError):
            return row, data
        try:
            return row, decode_tile(data, image_size)
        except UnreadableTileError as error:
            return row, error

    # Decoding releases the interpreter lock, so two threads keep one core busy while reading.
    with ThreadPoolExecutor(2) as threads:
        decoded = list(threads.map(decode, read_tiles(store, table, indices=rows)))
    decoded.sort(key=lambda item: item[0])
    good = [(row, tile) for row, tile in decoded if not isinstance(tile, UnreadableTileError)]
    bad = [(row, tile) for row, tile in decoded if isinstance(tile, UnreadableTileError)]
    tiles = (
        np.stack([tile for _, tile in good])
        if good
        else np.empty((0, image_size, image_size, 3), np.uint8)
    )
    return tiles, np.array([row for row, _ in good], dtype=np.int64), bad


class TileStream:
    """Batches of decoded tiles for one training worker.

    Args:
        store: where to read.
        groups: everything to train on, the same list on every worker.
        image_size: pixels.
        batch_size: tiles per batch.
        pool_tiles: decoded tiles held at once.
        seed: of the permutations.
        rank: this worker.
        world_size: workers; group g of an epoch's permutation goes to worker g mod world_size.
    """

    def __init__(  # noqa: PLR0913 - the whole plan of one worker, built in one place
        self,
        store: Store,
        groups: Sequence[TileGroup],
        *,
        image_size: int,
        batch_size: int,
        pool_tiles: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(groups) < world_size:
            raise DataError(
                f"Training on {world_size} workers needs at least as many groups of tiles; "
                f"got {len(groups)}. Lower training.num_workers."
            )
        self._store, self._groups = store, list(groups)
        self._image_size, self._batch_size, self._pool_tiles = image_size, batch_size, pool_tiles
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._kept: ByteArray | None = None
        self.num_tiles = sum(len(group.rows) for group in groups)
        self.num_unreadable = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the same on every worker."""
        return max(1, self.num_tiles // (self._world_size * self._batch_size))

    def epoch(self, number: int) -> Iterator[ByteArray]:
        """Yield `steps_per_epoch` batches (B, S, S, 3) uint8 of epoch `number`."""
        rng = child_generator(self._seed, "epoch", number, self._rank)
        left = self.steps_per_epoch
        while left > 0:  # a worker whose groups are smaller than the others' starts over
            for pool in self._pools(number):
                order = rng.permutation(len(pool))
                batches = max(1, len(pool) // self._batch_size)
                for batch in np.array_split(order[: batches * self._batch_size], batches):
                    if left == 0:
                        return
                    yield pool[batch]
                    left -= 1

    def _pools(self, number: int) -> Iterator[ByteArray]:
        if self._kept is not None:
            yield self._kept
            return
        if self._world_size == 1 and self.num_tiles <= self._pool_tiles:
            # In the order of the groups, so that a restart in a later epoch keeps the same pool.
            self._kept = np.concatenate([self._decode(group) for group in self._groups])
            _require_tiles(len(self._kept))
            yield self._kept
            return
        order = child_generator(self._seed, "groups", number).permutation(len(self._groups))
        mine = [self._groups[g] for g in order[self._rank :: self._world_size]]
        whole = sum(len(group.rows) for group in mine) <= self._pool_tiles
        filling: list[ByteArray] = []
        num_read = 0
        for group in mine:
            tiles = self._decode(group)
            num_read += len(tiles)
            filling.append(tiles)
            if not whole and sum(map(len, filling)) >= self._pool_tiles:
                yield np.concatenate(filling)
                filling = []
        _require_tiles(num_read)
        if sum(map(len, filling)):
            yield np.concatenate(filling)

    def _decode(self, group: TileGroup) -> ByteArray:
        table = read_table(self._store, group.uri, sha256=group.sha256)
        tiles, _, bad = decode_rows(self._store, table, group.rows, self._image_size)
        self.num_unreadable += len(bad)
        return tiles


def _require_tiles(count: int) -> None:
    if count == 0:
        raise DataError("No tile to train on could be read; see the quarantine table.")
