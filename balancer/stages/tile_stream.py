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

from balancer.config import Resize
from balancer.errors import DataError, UnreadableTileError
from balancer.seeding import child_generator
from balancer.storage.decoding import decode_tile
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.storage.tile_reader import TileBytes, read_tiles
from balancer.types import ByteArray, IdArray, IntArray


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


@dataclass(frozen=True, slots=True)
class GroupTiles:
    """The readable tiles of a group.

    Attributes:
        group: its number in the stream's list.
        rows: (n,) their row numbers in the group's table, ascending.
        tiles: (n, S, S, 3) uint8.
    """

    group: int
    rows: IntArray
    tiles: ByteArray


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
    store: Store,
    table: pa.Table,
    rows: IntArray | None,
    image_size: int,
    resize: Resize = "stretch",
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
            return row, decode_tile(data, image_size, resize)
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
        resize: as `encoder.resize`.
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
        resize: Resize = "stretch",
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
        self._resize: Resize = resize
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self._active = tuple(groups)
        self._kept_rows = [group.rows for group in groups]
        self._pool: tuple[ByteArray, list[GroupTiles]] | None = None
        self.num_tiles = sum(len(group.rows) for group in groups)
        self.num_unreadable = 0

    @property
    def num_groups(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the same on every worker, while nothing is pruned."""
        return self.steps_for(self.num_tiles)

    def steps_for(self, num_tiles: int) -> int:
        """Return the batches of an epoch of `num_tiles` tiles, the same on every worker."""
        return max(1, num_tiles // (self._world_size * self._batch_size))

    def prune(self, kept: Sequence[IntArray]) -> None:
        """Read in later epochs only some rows of each group, or all again.

        Args:
            kept: for every group its row numbers to read, which must be among the group's rows.
                The same on every worker.

        Raises:
            DataError: fewer tiles than workers.
        """
        self._kept_rows = list(kept)
        parts = [
            replace(group, rows=rows)
            for group, rows in zip(self._groups, kept, strict=True)
            if len(rows)
        ]
        # Pruning may empty groups, and every worker needs one.
        self._active = split_groups(parts, self._world_size)

    def share(self) -> Iterator[GroupTiles]:
        """Yield this worker's groups with all their readable tiles, whatever is pruned.

        Group g is read by worker g mod world_size.
        """
        if self._fits:
            yield from self._whole_pool()[1]
            return
        for number in range(self._rank, len(self._groups), self._world_size):
            yield self._decode(number, self._groups[number])

    def tile_ids(self, found: GroupTiles) -> IdArray:
        """Return the (n,) tile ids of a group's tiles."""
        group = self._groups[found.group]
        table = read_table(self._store, group.uri, sha256=group.sha256, columns=["tile_id"])
        ids: IdArray = np.array(table["tile_id"].take(pa.array(found.rows)).to_pylist(), dtype=str)
        return ids

    def epoch(self, number: int) -> Iterator[ByteArray]:
        """Yield the batches (B, S, S, 3) uint8 of epoch `number`: `steps_for` what is read."""
        rng = child_generator(self._seed, "epoch", number, self._rank)
        left = self.steps_for(sum(len(group.rows) for group in self._active))
        while left > 0:  # a worker whose groups are smaller than the others' starts over
            for pool, usable in self._pools(number):
                order = usable[rng.permutation(len(usable))]
                batches = max(1, len(order) // self._batch_size)
                for batch in np.array_split(order[: batches * self._batch_size], batches):
                    if left == 0:
                        return
                    yield pool[batch]
                    left -= 1

    @property
    def _fits(self) -> bool:
        return self._world_size == 1 and self.num_tiles <= self._pool_tiles

    def _whole_pool(self) -> tuple[ByteArray, list[GroupTiles]]:
        """Decode everything once, into one array that the groups are parts of."""
        if self._pool is None:
            # In the order of the groups, so that a restart in a later epoch keeps the same pool.
            parts = [self._decode(number, group) for number, group in enumerate(self._groups)]
            pool = np.concatenate([part.tiles for part in parts])
            _require_tiles(len(pool))
            ends = np.cumsum([len(part.tiles) for part in parts])
            views = np.split(pool, ends[:-1])
            parts = [replace(p, tiles=tiles) for p, tiles in zip(parts, views, strict=True)]
            self._pool = pool, parts
        return self._pool

    def _pools(self, number: int) -> Iterator[tuple[ByteArray, IntArray]]:
        """Yield pools of decoded tiles, and the positions in them to draw from."""
        if self._fits:
            pool, parts = self._whole_pool()
            wanted = [np.isin(part.rows, self._kept_rows[part.group]) for part in parts]
            yield pool, np.flatnonzero(np.concatenate(wanted))
            return
        order = child_generator(self._seed, "groups", number).permutation(len(self._active))
        mine = [self._active[g] for g in order[self._rank :: self._world_size]]
        whole = sum(len(group.rows) for group in mine) <= self._pool_tiles
        filling: list[ByteArray] = []
        num_read = 0
        for group in mine:
            tiles = self._decode(0, group).tiles
            num_read += len(tiles)
            filling.append(tiles)
            if not whole and sum(map(len, filling)) >= self._pool_tiles:
                yield _everything(np.concatenate(filling))
                filling = []
        _require_tiles(num_read)
        if sum(map(len, filling)):
            yield _everything(np.concatenate(filling))

    def _decode(self, number: int, group: TileGroup) -> GroupTiles:
        table = read_table(self._store, group.uri, sha256=group.sha256)
        tiles, rows, bad = decode_rows(
            self._store, table, group.rows, self._image_size, self._resize
        )
        self.num_unreadable += len(bad)
        return GroupTiles(number, rows, tiles)


def _everything(pool: ByteArray) -> tuple[ByteArray, IntArray]:
    return pool, np.arange(len(pool))


def _require_tiles(count: int) -> None:
    if count == 0:
        raise DataError("No tile to train on could be read; see the quarantine table.")
