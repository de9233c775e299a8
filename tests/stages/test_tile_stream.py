"""Training batches: nothing lost or repeated, shards mixed, the same for the same seed."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from balancer.config import ArchiveConfig
from balancer.errors import DataError
from balancer.stages.tile_stream import TileGroup, TileStream, decode_rows
from balancer.storage.filesystem import Store
from balancer.storage.sources import discover
from balancer.storage.tables import read_table, write_table
from balancer.storage.tile_shards import index_shard
from balancer.types import ByteArray
from tests.data.make_tiles import encode

SIZE = 8
SHARDS, PER_SHARD = 6, 8
Name = tuple[int, int]
"""(shard, number): every tile has one colour, which says which tile it is."""


def write_tar(path: Path, shard: int, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            pixels = np.full((SIZE, SIZE, 3), (10 * shard, number, 77), dtype=np.uint8)
            data = encode(pixels)
            info = tarfile.TarInfo(f"s{shard}-{number:03d}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def make_groups(folder: Path, sizes: Sequence[int]) -> list[TileGroup]:
    archive = folder / "tiles"
    archive.mkdir()
    for shard, count in enumerate(sizes):
        write_tar(archive / f"{shard}.tar", shard, count)
    store, config = Store(), ArchiveConfig(uri=str(archive))
    groups = []
    for source in discover(store, config):
        table = index_shard(store, source, config).table
        uri = str(folder / f"{source.shard_id}.parquet")
        written = write_table(store, uri, table)
        groups.append(TileGroup(uri, written.sha256, np.arange(table.num_rows)))
    return groups


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[TileGroup]:
    return make_groups(tmp_path_factory.mktemp("groups"), [PER_SHARD] * SHARDS)


def stream(
    groups: Sequence[TileGroup],
    *,
    batch_size: int = 8,
    pool_tiles: int = 1000,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> TileStream:
    return TileStream(
        Store(),
        groups,
        image_size=SIZE,
        batch_size=batch_size,
        pool_tiles=pool_tiles,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )


def names(batch: ByteArray) -> list[Name]:
    return [(int(tile[0, 0, 0]) // 10, int(tile[0, 0, 1])) for tile in batch]


def epoch(source: TileStream, number: int) -> list[list[Name]]:
    return [names(batch) for batch in source.epoch(number)]


def everything() -> Counter[Name]:
    return Counter((shard, number) for shard in range(SHARDS) for number in range(PER_SHARD))


@pytest.mark.parametrize("batch_size", [4, 8, 16])
@pytest.mark.parametrize("pool_tiles", [1000, 16, 32])
def test_an_epoch_has_every_tile_once(
    groups: list[TileGroup], batch_size: int, pool_tiles: int
) -> None:
    source = stream(groups, batch_size=batch_size, pool_tiles=pool_tiles)
    for number in range(3):
        batches = epoch(source, number)
        assert [len(batch) for batch in batches] == [batch_size] * source.steps_per_epoch
        assert Counter(name for batch in batches for name in batch) == everything()


def test_batches_mix_shards(groups: list[TileGroup]) -> None:
    for batch in epoch(stream(groups), 0):
        assert len({shard for shard, _ in batch}) >= 3


def test_a_small_pool_still_mixes_the_shards_that_fit(groups: list[TileGroup]) -> None:
    batches = epoch(stream(groups, pool_tiles=2 * PER_SHARD), 0)
    assert sum(len({shard for shard, _ in batch}) == 2 for batch in batches) >= len(batches) - 1


@pytest.mark.parametrize("pool_tiles", [1000, 16])
def test_same_seed_same_batches(groups: list[TileGroup], pool_tiles: int) -> None:
    one, other = (stream(groups, pool_tiles=pool_tiles, seed=5) for _ in range(2))
    assert [epoch(one, n) for n in range(2)] == [epoch(other, n) for n in range(2)]


def test_seeds_and_epochs_differ(groups: list[TileGroup]) -> None:
    source = stream(groups)
    first = epoch(source, 0)
    assert first != epoch(source, 1)
    assert first != epoch(stream(groups, seed=1), 0)


@pytest.mark.parametrize("pool_tiles", [1000, 16])
def test_a_restarted_worker_gets_the_batches_it_would_have_had(
    groups: list[TileGroup], pool_tiles: int
) -> None:
    """Training that goes on from a checkpoint begins with a later epoch."""
    undisturbed = stream(groups, pool_tiles=pool_tiles)
    epoch(undisturbed, 0)
    assert epoch(stream(groups, pool_tiles=pool_tiles), 1) == epoch(undisturbed, 1)


@pytest.mark.parametrize("pool_tiles", [1000, 8])
def test_two_workers_share_the_tiles(groups: list[TileGroup], pool_tiles: int) -> None:
    workers = [
        stream(groups, batch_size=4, pool_tiles=pool_tiles, rank=rank, world_size=2)
        for rank in range(2)
    ]
    for number in range(2):
        shares = [Counter(n for batch in epoch(w, number) for n in batch) for w in workers]
        assert not shares[0] & shares[1]
        assert shares[0] + shares[1] == everything()


def test_workers_with_unequal_shares_take_equally_many_steps(tmp_path: Path) -> None:
    uneven = make_groups(tmp_path, [12, 4])
    workers = [stream(uneven, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert [len(epoch(worker, 0)) for worker in workers] == [2, 2]


def test_fewer_tiles_than_a_batch_make_one_batch(tmp_path: Path) -> None:
    few = make_groups(tmp_path, [3])
    assert [sorted(batch) for batch in epoch(stream(few), 0)] == [[(0, 0), (0, 1), (0, 2)]]


def test_only_the_rows_of_a_group_are_read(groups: list[TileGroup]) -> None:
    part = [TileGroup(group.uri, group.sha256, np.array([1, 6])) for group in groups]
    source = stream(part, batch_size=6)
    assert source.num_tiles == 2 * SHARDS
    assert {number for batch in epoch(source, 0) for _, number in batch} == {1, 6}


def test_too_few_groups_for_the_workers(groups: list[TileGroup]) -> None:
    with pytest.raises(DataError, match=r"7 workers .* got 6\. Lower training\.num_workers"):
        stream(groups, world_size=7)


class TestUnreadableTiles:
    @pytest.fixture
    def damaged(self, tmp_path: Path) -> list[TileGroup]:
        """Three groups whose second one was damaged after indexing: no tile of it is an image."""
        groups = make_groups(tmp_path, [8, 8, 8])
        path = tmp_path / "tiles" / "1.tar"
        path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\x89BAD"))
        return groups

    def test_are_left_out_and_counted(self, damaged: list[TileGroup]) -> None:
        source = stream(damaged, batch_size=4)
        seen = {name for batch in epoch(source, 0) for name in batch}
        assert {shard for shard, _ in seen} == {0, 2}
        assert source.num_unreadable == 8

    def test_a_pool_of_them_is_passed_over(self, damaged: list[TileGroup]) -> None:
        for number in range(4):  # in some epoch the damaged group comes last
            source = stream(damaged, batch_size=4, pool_tiles=8)
            assert {shard for batch in epoch(source, number) for shard, _ in batch} == {0, 2}

    def test_none_readable(self, damaged: list[TileGroup]) -> None:
        with pytest.raises(DataError, match="No tile to train on could be read"):
            epoch(stream(damaged[1:2]), 0)

    def test_rows_and_reasons(self, damaged: list[TileGroup]) -> None:
        store = Store()
        whole = read_table(store, damaged[0].uri)
        tiles, rows, bad = decode_rows(store, whole, np.array([5, 2]), SIZE)
        assert rows.tolist() == [2, 5]
        assert names(tiles) == [(0, 2), (0, 5)]
        assert not bad
        tiles, rows, bad = decode_rows(store, read_table(store, damaged[1].uri), None, SIZE)
        assert tiles.shape == (0, SIZE, SIZE, 3)
        assert len(rows) == 0
        assert [row for row, _ in bad] == list(range(8))


class TestPruned:
    KEPT = tuple(np.array(rows) for rows in ([0, 3], [], [1, 2, 5, 7], [6], [], [4]))

    def wanted(self) -> Counter[Name]:
        return Counter((shard, int(n)) for shard, rows in enumerate(self.KEPT) for n in rows)

    @pytest.mark.parametrize("pool_tiles", [1000, 3])
    def test_only_what_is_kept_is_read(self, groups: list[TileGroup], pool_tiles: int) -> None:
        source = stream(groups, batch_size=1, pool_tiles=pool_tiles)
        before = epoch(source, 0)
        source.prune(self.KEPT)
        after = epoch(source, 1)
        assert Counter(name for batch in after for name in batch) == self.wanted()
        assert len(after) == source.steps_for(8) == 8
        source.prune([group.rows for group in groups])
        assert epoch(source, 0) == before

    def test_a_restarted_worker_reads_the_same(self, groups: list[TileGroup]) -> None:
        undisturbed, restarted = (stream(groups, batch_size=2) for _ in range(2))
        epoch(undisturbed, 0)
        undisturbed.prune(self.KEPT)
        epoch(undisturbed, 1)
        restarted.prune(self.KEPT)
        assert epoch(restarted, 2) == epoch(undisturbed, 2)

    def test_workers_share_what_is_kept_even_of_one_group(self, groups: list[TileGroup]) -> None:
        one = [np.array([1, 2, 5, 7]), *(np.array([], dtype=np.int64) for _ in range(5))]
        workers = [stream(groups, batch_size=2, rank=r, world_size=2) for r in range(2)]
        seen = []
        for worker in workers:
            worker.prune(one)
            seen.append(Counter(name for batch in epoch(worker, 0) for name in batch))
        assert not seen[0] & seen[1]
        assert seen[0] + seen[1] == Counter((0, number) for number in (1, 2, 5, 7))

    @pytest.mark.parametrize("world_size", [1, 2])
    @pytest.mark.parametrize("pool_tiles", [1000, 8])
    def test_the_shares_are_everything_once(
        self, groups: list[TileGroup], world_size: int, pool_tiles: int
    ) -> None:
        found: Counter[Name] = Counter()
        for rank in range(world_size):
            worker = stream(groups, pool_tiles=pool_tiles, rank=rank, world_size=world_size)
            worker.prune(self.KEPT)
            for part in worker.share():
                found.update(names(part.tiles))
                assert [number for _, number in names(part.tiles)] == part.rows.tolist()
                ids = worker.tile_ids(part).tolist()
                assert ids == [f"s{part.group}-{row:03d}" for row in part.rows]
        assert found == everything()
