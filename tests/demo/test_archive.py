"""The demo's archive: same bytes twice, readable shards, valid sidecars, refusals that explain."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from balancer.demo.archive import ArchiveSummary, write_archive
from balancer.demo.geography import RANGES
from balancer.demo.scenes import CLASSES, class_counts
from balancer.demo.strips import plan_strips
from balancer.errors import ConfigError, DataError

TOTAL = 240


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> ArchiveSummary:
    directory = tmp_path_factory.mktemp("demo") / "tiles"
    return write_archive(directory, total=TOTAL, seed=5, tiles_per_shard=100)


def sidecars(archive: ArchiveSummary) -> list[dict[str, Any]]:
    found = []
    for shard in archive.shards:
        with tarfile.open(archive.directory / shard) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None and member.name.endswith(".json"):
                    found.append(json.load(content))
    return found


def test_shards_hold_a_jpeg_and_a_sidecar_for_each_key(archive: ArchiveSummary) -> None:
    assert archive.created
    assert archive.shards == ("shard-00.tar", "shard-01.tar", "shard-02.tar")
    assert archive.num_bytes == sum((archive.directory / s).stat().st_size for s in archive.shards)
    keys: list[str] = []
    for number, shard in enumerate(archive.shards):
        with tarfile.open(archive.directory / shard) as tar:
            members = tar.getmembers()
            assert all(m.uid == 0 and m.gid == 0 and not m.uname for m in members)
            for image, sidecar in zip(members[::2], members[1::2], strict=True):
                key = image.name.removesuffix(".jpg")
                assert sidecar.name == f"{key}.json"
                assert key == f"s{number:02d}-{len(keys):06d}"
                keys.append(key)
            content = tar.extractfile(members[0])
            assert content is not None
            with Image.open(io.BytesIO(content.read())) as picture:
                assert picture.format == "JPEG"
                assert picture.size == (64, 64)
                assert picture.mode == "RGB"
    assert len(set(keys)) == archive.num_tiles == TOTAL


def test_sidecars_are_valid_and_count_the_classes(archive: ArchiveSummary) -> None:
    rows = sidecars(archive)
    assert Counter(row["class"] for row in rows) == Counter(class_counts(TOTAL))
    assert archive.class_counts == class_counts(TOTAL)
    for row in rows:
        assert -180 <= row["lon"] <= 180
        assert -90 <= row["lat"] <= 90
        assert row["gsd_m"] > 0
        assert any(
            west <= row["lon"] <= east and south <= row["lat"] <= north
            for west, south, east, north in RANGES[row["class"]].boxes
        )
    times = [row["time"] for row in rows]
    assert all(time.endswith("Z") and datetime.fromisoformat(time) for time in times)


def test_tiles_come_in_strips_so_shards_differ(archive: ArchiveSummary) -> None:
    kinds = [row["class"] for row in sidecars(archive)]
    assert len(list(groupby(kinds))) < 0.7 * len(kinds)
    shares = [
        Counter(kinds[start : start + 100])["ocean"] / len(kinds[start : start + 100])
        for start in (0, 100, 200)
    ]
    assert max(shares) - min(shares) > 0.02


def test_strips_are_in_order_of_time_and_within_a_year() -> None:
    sightings = plan_strips(class_counts(2000), np.random.default_rng(1))
    starts = [next(strip).time for _, strip in groupby(sightings, key=lambda s: s.kind)]
    assert starts == sorted(starts)
    assert all(s.time.tzinfo is not None for s in sightings)


def test_every_class_has_regions_within_the_globe() -> None:
    assert set(RANGES) == set(CLASSES)
    for place in RANGES.values():
        for west, south, east, north in place.boxes:
            assert -180 <= west < east <= 180
            assert -90 <= south < north <= 90


def test_same_recipe_gives_the_same_bytes(archive: ArchiveSummary, tmp_path: Path) -> None:
    again = write_archive(tmp_path / "again", total=TOTAL, seed=5, tiles_per_shard=100)
    assert again.digest == archive.digest
    for shard in archive.shards:
        assert (again.directory / shard).read_bytes() == (archive.directory / shard).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again"]


def test_tiles_do_not_depend_on_the_sharding(archive: ArchiveSummary, tmp_path: Path) -> None:
    other = write_archive(tmp_path / "other", total=TOTAL, seed=5, tiles_per_shard=240)
    assert sidecars(other) == sidecars(archive)


def test_same_recipe_returns_early(archive: ArchiveSummary) -> None:
    calls: list[int] = []
    again = write_archive(
        archive.directory,
        total=TOTAL,
        seed=5,
        tiles_per_shard=100,
        on_progress=lambda done, _: calls.append(done),
    )
    assert not again.created
    assert not calls
    assert (again.shards, again.digest) == (archive.shards, archive.digest)
    assert again.class_counts == archive.class_counts


def test_another_recipe_in_place_is_refused(archive: ArchiveSummary) -> None:
    with pytest.raises(ConfigError, match=r"another recipe \(seed: 5 -> 6\).*another path"):
        write_archive(archive.directory, total=TOTAL, seed=6, tiles_per_shard=100)


def test_foreign_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"must be empty or hold a demo archive"):
        write_archive(tmp_path, total=TOTAL)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match="must be a folder; got a file"):
        write_archive(tmp_path / "notes.txt", total=TOTAL)


def test_interruption_leaves_nothing_and_a_rerun_completes(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == TOTAL
        if done == 3:
            raise KeyboardInterrupt

    directory = tmp_path / "tiles"
    with pytest.raises(KeyboardInterrupt):
        write_archive(directory, total=TOTAL, on_progress=stop)
    assert not list(tmp_path.iterdir())
    directory.mkdir()
    assert write_archive(directory, total=TOTAL).created


def test_damage_is_noticed(tmp_path: Path) -> None:
    summary = write_archive(tmp_path / "tiles", total=240)
    shard = summary.directory / summary.shards[0]
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"must have \d+ bytes; got \d+ bytes.*make it anew"):
        write_archive(summary.directory, total=240)
    (summary.directory / "archive.json").write_text("{}")
    with pytest.raises(DataError, match="must be the record of a demo archive"):
        write_archive(summary.directory, total=240)


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="total must be at least 240"):
        write_archive(tmp_path / "x", total=10)
    with pytest.raises(ValueError, match="tiles_per_shard must be at least 1; got 0"):
        write_archive(tmp_path / "x", tiles_per_shard=0)
