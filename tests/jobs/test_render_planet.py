"""The rendering job: a tar that balancer reads, the same bytes however it is cut."""

from __future__ import annotations

from pathlib import Path

from balancer.config import ArchiveConfig
from balancer.storage.filesystem import Store
from balancer.storage.sources import discover
from balancer.storage.tile_shards import index_shard
from jobs.render_planet import closed, render_rows, tar_members

ROWS = [("train_0", ["haze", "primary"]), ("train_1", ["agriculture", "clear", "water"]),
        ("train_2", ["cloudy"])]  # fmt: skip


def test_a_tar_that_is_read_as_tiles(tmp_path: Path) -> None:
    names = [name for name, _ in ROWS]
    whole = tar_members(names, render_rows(ROWS, 0))
    parts = [tar_members([name], render_rows([(name, tags)], 0)) for name, tags in ROWS]
    assert whole == b"".join(parts)
    path = tmp_path / "tiles.tar"
    path.write_bytes(closed(whole))
    archive = ArchiveConfig(uri=str(path), format="webdataset")
    [source] = discover(Store(), archive)
    indexed = index_shard(Store(), source, archive)
    assert indexed.table["tile_id"].to_pylist() == names
    assert indexed.table["width"].to_pylist() == [64, 64, 64]
    assert indexed.quarantine.num_rows == 0
