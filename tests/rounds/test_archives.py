"""The whole job on small folders and tars: bad tiles, duplicates, and archives that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from balancer import run_rounds
from balancer.errors import ConfigError, DataError, StorageError
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from tests.data.make_tiles import bad_tiles, encode, make_tiles, tar_bytes
from tests.data.tiny_runs import QUIET, finish, frozen, read_json, snapshot

pytestmark = pytest.mark.ray


class TestRefusals:
    def test_another_input(self, ray_cluster: str, tmp_path: Path, folder: Path) -> None:
        assert ray_cluster
        config = frozen(folder, tmp_path / "run")
        before = finish(config).files
        (folder / "forest" / "new.png").write_bytes(encode(np.zeros((16, 16, 3), np.uint8)))
        with pytest.raises(
            ConfigError, match=r"shards removed \(-\) and added \(\+\)(.|\n)*another --out"
        ):
            run_rounds(config, reporter=QUIET)
        assert snapshot(tmp_path / "run") == before

    def test_a_budget_beyond_the_archive(self, ray_cluster: str, folder: Path) -> None:
        assert ray_cluster
        config = frozen(folder, folder.parent / "run", selection={"budget": 11})
        with pytest.raises(ConfigError, match=r"readable tiles \(10\); got 11"):
            run_rounds(config, reporter=QUIET)

    def test_an_empty_archive(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"must hold tiles: .* got no files at all"):
            run_rounds(frozen(tmp_path / "empty", tmp_path / "run"), reporter=QUIET)

    @pytest.mark.s3
    @pytest.mark.parametrize("where", ["archive", "out"])
    def test_a_missing_bucket(self, s3_server: str, folder: Path, where: str) -> None:
        assert s3_server
        missing = "s3://no-such-bucket/tiles"
        config = (
            frozen(missing, folder.parent / "run")
            if where == "archive"
            else frozen(folder, missing)
        )
        with pytest.raises(StorageError, match="Bucket 'no-such-bucket' must exist"):
            run_rounds(config, reporter=QUIET)


class TestFrozenEncoder:
    def test_stops_after_one_round(self, ray_cluster: str, folder: Path) -> None:
        assert ray_cluster
        done = finish(frozen(folder, folder.parent / "run"))
        assert done.result.num_rounds == 1
        assert "the encoder is frozen" in done.result.stopped_because
        assert done.record("final", "COMMIT.json")["stopped_because"] == done.result.stopped_because
        assert done.record("round-000", "COMMIT.json")["history"] == []
        # Folder names are labels, though the configuration does not say so.
        assert done.result.measures["class_names"] == ["forest", "mine", "ocean"]


class TestBadTiles:
    def spoil(self, folder: Path, *names: str) -> None:
        for name in names:
            (folder / "forest" / f"bad_{name}.png").write_bytes(bad_tiles()[name][1])

    def test_are_quarantined_and_counted(self, ray_cluster: str, folder: Path) -> None:
        assert ray_cluster
        self.spoil(folder, "zero_bytes", "cut_png", "cut_jpeg")
        archive = {"max_bad_fraction": 0.3, "tiles_per_shard": 5}
        done = finish(frozen(folder, folder.parent / "run", archive=archive))
        facts = done.record("catalog", "COMMIT.json")
        assert (facts["num_listed"], facts["num_tiles"], facts["num_quarantined"]) == (13, 10, 3)
        assert facts["reasons"] == {"empty": 1, "truncated": 2}
        rows = [
            row
            for entry in facts["quarantine"]
            for row in read_table(
                Store(), str(done.folder / entry["path"]), sha256=entry["sha256"]
            ).to_pylist()
        ]
        assert sorted((Path(row["uri"]).name, row["reason"]) for row in rows) == [
            ("bad_cut_jpeg.png", "truncated"),
            ("bad_cut_png.png", "truncated"),
            ("bad_zero_bytes.png", "empty"),
        ]
        assert not any(
            "bad" in name
            for name in pq.read_table(done.folder / "manifest.parquet")["tile_id"].to_pylist()
        )

    def test_too_many(self, ray_cluster: str, folder: Path) -> None:
        assert ray_cluster
        self.spoil(folder, "zero_bytes", "cut_png", "cut_jpeg")
        with pytest.raises(DataError, match=r"got 3 of 13 \(23\.08%\): truncated 2, empty 1") as e:
            run_rounds(frozen(folder, folder.parent / "run"), reporter=QUIET)
        assert "bad_zero_bytes.png" in str(e.value)
        assert "archive.max_bad_fraction" in str(e.value)

    def test_none_readable(self, ray_cluster: str, tmp_path: Path) -> None:
        assert ray_cluster
        (tmp_path / "tiles" / "forest").mkdir(parents=True)
        self.spoil(tmp_path / "tiles", "zero_bytes", "text")
        with pytest.raises(DataError, match=r"at least one readable tile; got none \(2 unreadable"):
            run_rounds(
                frozen(tmp_path / "tiles", tmp_path / "run", archive={"max_bad_fraction": 1.0}),
                reporter=QUIET,
            )

    def test_embeddings_that_are_not_finite(self, ray_cluster: str, folder: Path) -> None:
        assert ray_cluster
        for number in range(2):
            black = np.full((16, 16, 3), number, np.uint8)
            (folder / "mine" / f"black_{number}.png").write_bytes(encode(black))
        archive = {"max_bad_fraction": 0.5}
        run = folder.parent / "run"
        done = finish(frozen(folder, run, "dark_is_nan", archive=archive))
        entry = read_json(Store(), str(run), "catalog", "COMMIT.json")["shards"][0]["shard_id"]
        record = done.record("round-000", "embed", "done", f"{entry}.json")
        assert (record["rows"], record["quarantine"]["rows"]) == (10, 2)
        assert "embedding-not-finite" in record["quarantine"]["example"]

        with pytest.raises(DataError, match=r"may fail to embed .* got 2 of 12, for example"):
            run_rounds(frozen(folder, folder.parent / "strict", "dark_is_nan"), reporter=QUIET)

        greedy = frozen(
            folder, folder.parent / "all", "dark_is_nan", archive=archive, selection={"budget": 12}
        )
        with pytest.raises(DataError, match=r"could be embedded \(10\); got 12"):
            run_rounds(greedy, reporter=QUIET)


class TestDuplicates:
    def test_same_bytes_count_once(self, ray_cluster: str, tmp_path: Path) -> None:
        assert ray_cluster
        tiles = make_tiles()
        (tmp_path / "tiles").mkdir()
        (tmp_path / "tiles" / "a.tar").write_bytes(tar_bytes(tiles))
        (tmp_path / "tiles" / "b.tar").write_bytes(tar_bytes([*tiles[:3], *self.others()]))
        done = finish(frozen(tmp_path / "tiles", tmp_path / "run"))
        facts = done.record("catalog", "COMMIT.json")
        assert (facts["num_listed"], facts["num_tiles"], facts["num_duplicates"]) == (15, 12, 3)
        assert [shard["num_tiles"] for shard in facts["shards"]] == [10, 2]

    def test_other_bytes_are_refused(self, ray_cluster: str, tmp_path: Path) -> None:
        assert ray_cluster
        (tmp_path / "tiles").mkdir()
        (tmp_path / "tiles" / "a.tar").write_bytes(tar_bytes(make_tiles()))
        (tmp_path / "tiles" / "b.tar").write_bytes(tar_bytes(make_tiles(seed=1)))
        with pytest.raises(DataError, match=r"different bytes in .*a\.tar .* and in .*b\.tar"):
            run_rounds(frozen(tmp_path / "tiles", tmp_path / "run"), reporter=QUIET)

    @staticmethod
    def others() -> list[Any]:
        made = make_tiles(seed=1)[:2]
        return [type(t)(t.name.replace("_0", "_9"), t.data, t.sidecar) for t in made]
