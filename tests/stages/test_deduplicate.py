"""Near-duplicates among shards on Ray: the array's result, a worker's death, a whole run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from balancer.config import Config
from balancer.config_deduplicate import DeduplicateConfig
from balancer.config_file import build_config
from balancer.errors import ConfigError, DataError
from balancer.selection.arrays import prepare
from balancer.selection.near_duplicates import deduplicate
from balancer.selection.near_order import order_seed
from balancer.stages.near_duplicate_search import Found, ShardSearch
from balancer.storage.filesystem import Store
from balancer.storage.manifests import read_manifest
from balancer.storage.tables import read_table, write_table
from balancer.types import DoubleArray, EmbeddingShard, ShardRef
from balancer.verification import verify_manifest
from tests.data.tiny_runs import finish, frozen, frozen_tree
from tests.selection.near_data import near_rows
from tests.stages.shards import cut_into_shards

POINTS, IDS = near_rows(300, spread=0.4)
UNIT, _ = prepare(POINTS, IDS, normalize=True)
SEED = 5


def cut(folder: Path, count: int) -> list[EmbeddingShard]:
    return cut_into_shards(folder, IDS, POINTS, count)


def search(
    shards: list[EmbeddingShard],
    config: DeduplicateConfig,
    *,
    rows_per_bucket: int = 10**6,
    store: Store | None = None,
    catalog: tuple[ShardRef, ...] = (),
) -> Found:
    tasks = ShardSearch(store or Store(), shards, normalize=True, seed=order_seed(SEED))
    return tasks.find(config, catalog, rows_per_bucket)


def assert_same(
    found: Found, config: DeduplicateConfig, priority: DoubleArray | None = None
) -> None:
    expected = deduplicate(UNIT, IDS, config, seed=SEED, priority=priority)
    ranks = np.concatenate(found.ranks)
    assert found.order.tolist() == expected.order.tolist()
    assert found.net.kept[ranks].tolist() == expected.kept.tolist()
    by = found.net.by[ranks]
    assert np.where(by >= 0, found.order[by], -1).tolist() == expected.kept_by.tolist()
    assert found.net.squared[ranks].tobytes() == expected.squared.tobytes()
    assert found.effort == expected.effort
    assert (found.net.pairs is None) == (expected.pairs is None)
    if found.net.pairs is not None and expected.pairs is not None:
        assert found.net.pairs.second.tolist() == expected.pairs.second.tolist()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("num_shards", "rows_per_bucket", "fields"),
    [
        (1, 10**6, {}),
        (5, 40, {"num_cells": 9}),
        (5, 40, {"num_cells": 9, "floor": 0.9}),
        (3, 10**6, {"borders": "ignore"}),
        (3, 30, {"rule": "semdedup", "order": "easy"}),
        (2, 25, {"num_cells": 1}),
    ],
)
def test_shards_give_what_one_array_gives(
    ray_cluster: str,
    tmp_path: Path,
    num_shards: int,
    rows_per_bucket: int,
    fields: dict[str, Any],
) -> None:
    assert ray_cluster
    config = DeduplicateConfig(threshold=0.95, **fields)
    found = search(cut(tmp_path, num_shards), config, rows_per_bucket=rows_per_bucket)
    assert 20 < found.net.kept.sum() < 280
    assert_same(found, config)


@dataclass(frozen=True, slots=True)
class DyingStore(Store):
    """Ends the process at the first few readings of one file."""

    marks: str = ""
    deaths: int = 3

    def read_bytes(self, uri: str, offset: int = 0, num_bytes: int | None = None) -> bytes:
        if uri.endswith("/1.parquet") and len(os.listdir(self.marks)) < self.deaths:
            with open(f"{self.marks}/{os.getpid()}", "w") as file:
                file.write("died here")
            os._exit(1)
        return Store.read_bytes(self, uri, offset, num_bytes)


@pytest.mark.ray
def test_workers_that_die_change_nothing(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    (tmp_path / "marks").mkdir()
    store = DyingStore(marks=str(tmp_path / "marks"))
    config = DeduplicateConfig(threshold=0.95, num_cells=9)
    found = search(cut(tmp_path, 3), config, rows_per_bucket=60, store=store)
    assert len(list((tmp_path / "marks").iterdir())) == 3
    assert_same(found, config)


def cataloged(
    folder: Path, shards: list[EmbeddingShard], values: list[Any]
) -> tuple[ShardRef, ...]:
    """Write catalogs with a column of quality."""
    refs, end = [], 0
    for shard in shards:
        rows = slice(end, end + shard.num_rows)
        end += shard.num_rows
        uri = str(folder / f"catalog-{shard.shard_id}.parquet")
        table = pa.table({"tile_id": IDS[rows].tolist(), "quality": values[rows]})
        file = write_table(Store(), uri, table)
        refs.append(ShardRef(shard.shard_id, "archive", uri, "", file.sha256, shard.num_rows, 0))
    return tuple(refs)


@pytest.mark.ray
def test_priority_is_a_metadata_column(ray_cluster: str, tmp_path: Path) -> None:
    assert ray_cluster
    shards = cut(tmp_path, 3)
    quality = np.random.default_rng(0).integers(0, 4, len(IDS)).astype(float)
    config = DeduplicateConfig(threshold=0.95, priority="quality")
    catalog = cataloged(tmp_path, shards, quality.tolist())
    assert_same(search(shards, config, catalog=catalog), config, quality)
    (tmp_path / "texts").mkdir()
    texts = cataloged(tmp_path / "texts", shards, ["good"] * len(IDS))
    with pytest.raises(ConfigError, match="'quality' holds other values in archive"):
        search(shards, config, catalog=texts)
    absent = DeduplicateConfig(threshold=0.95, priority="clouds")
    with pytest.raises(ConfigError, match="no tile has a value in 'clouds'"):
        search(shards, absent, catalog=catalog)


def repeated_tiles(folder: Path) -> Path:
    """Write an archive of 12 tiles of noise, each of the first four three times with a change."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        for copy in range(3 if number < 4 else 1):
            pixels[0, copy] ^= copy
            Image.fromarray(pixels).save(folder / f"{number:02d}-{copy}.png")
    return folder


@pytest.mark.ray
class TestRun:
    @pytest.fixture
    def configured(self, tmp_path: Path) -> Callable[..., Config]:
        archive = repeated_tiles(tmp_path / "tiles")

        def make(**near: float) -> Config:
            return frozen(
                archive,
                tmp_path / "run",
                selection={"budget": 6, "deduplicate": near},
                archive={"tiles_per_shard": 7},
                rounds=1,
            )

        return make

    def test_counts_tables_verify_and_resume(
        self, ray_cluster: str, configured: Callable[..., Config]
    ) -> None:
        assert ray_cluster
        finished = finish(configured(threshold=0.999, floor=0.9))
        commit = finished.record("round-000", "COMMIT.json")
        near = commit["near_duplicates"]
        assert (near["input"], near["kept"], near["near_duplicates"]) == (20, 12, 8)
        assert sum(shard["rows"] for shard in commit["embeddings"]) == 20
        assert sum(shard["rows"] for shard in commit["selected_from"]) == 12
        table, facts = read_manifest(Store(), finished.result.manifest_uri)
        assert facts["near_duplicates"]["near_duplicates"] == 8
        assert facts["certificate"]["num_rows"] == 12
        stands_for = dict(
            zip(
                [name[:2] for name in table["tile_id"].to_pylist()],
                table["num_near_duplicates"].to_pylist(),
                strict=True,
            )
        )
        assert stands_for == {name: 2 if name < "04" else 0 for name in stands_for}
        report = verify_manifest(Store(), finished.result.manifest_uri)
        assert report.verified, report
        archive = finished.result.measures["sets"]["archive"]
        assert archive["num_tiles"] == 20  # measures look at every tile

        tiles = pa.concat_tables(
            [
                read_table(Store(), str(finished.folder / entry["path"]), sha256=entry["sha256"])
                for entry in near["tables"]
            ]
        )
        assert tiles["kept"].to_pylist().count(True) == 12
        dropped = tiles.filter(pa.compute.invert(tiles["kept"]))
        names = zip(*(dropped[c].to_pylist() for c in ("tile_id", "kept_by")), strict=True)
        assert all(one[:2] == other[:2] for one, other in names)
        assert min(dropped["similarity"].to_pylist()) >= 0.999
        assert sum(entry["rows"] for entry in near["pairs"]) == near["num_pairs"] >= 12

        before = finished.files
        record = next((finished.folder / "round-000/deduplicate/done").glob("*.json"))
        record.unlink()  # an interrupted stage, before its round was committed
        (finished.folder / "round-000/COMMIT.json").unlink()
        (finished.folder / "final/COMMIT.json").unlink()
        again = finish(configured(threshold=0.999, floor=0.9))
        assert again.manifest == finished.manifest
        assert again.record("round-000", "COMMIT.json")["near_duplicates"]["kept"] == 12
        same = [name for name in before if "/embed/" in name or "/select/" in name]
        assert all(again.files[name] == before[name] for name in same)

    def test_lists_come_before_near_duplicates(self, ray_cluster: str, tmp_path: Path) -> None:
        """An included tile stays, and an excluded one stands for no tile that may be picked."""
        assert ray_cluster
        archive = repeated_tiles(tmp_path / "tiles")
        include, exclude = tmp_path / "include.txt", tmp_path / "exclude.txt"
        include.write_text("00-1.png\n01-2.png\n")
        exclude.write_text("02-0.png\n02-1.png\n11-0.png\n")

        def make(name: str) -> Config:
            return frozen(
                archive,
                tmp_path / name,
                selection={
                    "budget": 11,  # every tile there is: 12 groups less the excluded one
                    "deduplicate": {"threshold": 0.999},
                    "include": str(include),
                    "exclude": str(exclude),
                },
                archive={"tiles_per_shard": 7},
                rounds=1,
            )

        finished = finish(make("run"))
        table, _ = read_manifest(Store(), finished.result.manifest_uri)
        picked = table["tile_id"].to_pylist()
        assert picked[:2] == ["00-1.png", "01-2.png"]
        assert "02-2.png" in picked
        assert sorted(name[:2] for name in picked) == [f"{n:02d}" for n in range(11)]
        report = verify_manifest(Store(), finished.result.manifest_uri)
        assert report.verified, report
        include.write_text("00-1.png\n00-2.png\n")
        with pytest.raises(DataError, match=r"near-duplicates of each other; '00-\d.png' is one"):
            finish(make("again"))

    def test_a_budget_beyond_what_is_left(
        self, ray_cluster: str, configured: Callable[..., Config]
    ) -> None:
        assert ray_cluster
        with pytest.raises(DataError, match=r"without near-duplicates \(1 of 20\); got 6"):
            finish(configured(threshold=-0.999))

    def test_too_many_pairs(self, ray_cluster: str, configured: Callable[..., Config]) -> None:
        assert ray_cluster
        with pytest.raises(DataError, match=r"at most max_pairs \(5\); there are more"):
            finish(configured(threshold=0.999, floor=0.0, max_pairs=5))


def test_a_similarity_needs_normalised_rows(tmp_path: Path) -> None:
    tree = frozen_tree(
        tmp_path,
        tmp_path / "run",
        selection={"deduplicate": {"threshold": 0.9}},
        embedding={"normalize": False},
    )
    with pytest.raises(ConfigError, match=r"needs embedding\.normalize: true"):
        build_config(tree)


def test_nothing_changes_where_it_is_off(tmp_path: Path) -> None:
    config = frozen(tmp_path, tmp_path / "run")
    assert config.selection.deduplicate is None
