"""The whole job on a tiny demo archive: what it writes, and that nothing is redone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import balancer.rounds.runner as runner
from balancer import run_rounds
from balancer.errors import ConfigError, StorageError
from balancer.stages.context import RunContext
from balancer.stages.publish import publish
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from balancer.types import Manifest, Selection
from balancer.version import __version__
from tests.data.tiny_runs import QUIET, Finished, finish, snapshot, trained

pytestmark = pytest.mark.ray


def records(files: Mapping[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    return {name: file for name, file in files.items() if name.endswith(".json")}


@pytest.fixture(scope="module")
def run(ray_cluster: str, demo_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return two finished rounds of SimCLR."""
    assert ray_cluster
    return finish(trained(demo_archive, tmp_path_factory.mktemp("trained") / "run"))


class TestManifest:
    def test_columns(self, run: Finished) -> None:
        table = pq.read_table(run.folder / "manifest.parquet")
        wanted = {"tile_id", "uri", "shard", "rank", "cluster", "distance", "weight", "reason"}
        assert wanted | {"round"} <= set(table.column_names)
        assert {"class", "lon", "lat", "time"} <= set(table.column_names)
        assert table["rank"].to_pylist() == list(range(24))
        assert set(table["round"].to_pylist()) == {1}
        assert set(table["reason"].to_pylist()) == {"hybrid-medoid"}
        assert len(set(table["tile_id"].to_pylist())) == 24
        assert min(table["cluster"].to_pylist()) >= 0

    def test_weights_stand_for_the_whole_archive(self, run: Finished) -> None:
        # Every cluster gives a tile here, so the weights of its picks add up to its size.
        table = pq.read_table(run.folder / "manifest.parquet")
        assert sum(table["weight"].to_pylist()) == pytest.approx(240)

    def test_every_tile_can_be_found_by_its_row(self, run: Finished, demo_archive: Path) -> None:
        for row in pq.read_table(run.folder / "manifest.parquet").to_pylist():
            path = Path(row["uri"])
            assert path.parent == demo_archive
            with path.open("rb") as file:
                file.seek(row["offset"])
                assert file.read(row["num_bytes"])[:2] == b"\xff\xd8"  # a JPEG begins here

    def test_pandas_polars_and_duckdb_read_it_alone(self, run: Finished) -> None:
        path = str(run.folder / "manifest.parquet")
        ids = pd.read_parquet(path)["tile_id"].tolist()
        assert len(ids) == 24
        assert pl.read_parquet(path)["tile_id"].to_list() == ids
        found = duckdb.execute("select tile_id from read_parquet(?) order by rank", [path])
        assert [row[0] for row in found.fetchall()] == ids

    def test_footer(self, run: Finished) -> None:
        metadata = pq.read_schema(run.folder / "manifest.parquet").metadata
        facts = json.loads(metadata[b"balancer"])
        assert facts["config"] == run.config.frozen_part()
        assert (facts["seed"], facts["round"], facts["schema_version"]) == (0, 1, 1)
        assert facts["code_version"] == __version__
        encoder = run.record("round-001", "COMMIT.json")["encoder"]
        assert facts["encoder_fingerprint"] == encoder["fingerprint"]
        assert len(facts["input_fingerprint"]) == len(facts["clustering_fingerprint"]) == 16

    def test_result(self, run: Finished) -> None:
        assert run.result.num_rounds == 2
        assert run.result.stopped_because == "all rounds are done"
        assert run.result.manifest_uri == str(run.folder / "manifest.parquet")
        last = run.record("round-001", "COMMIT.json")["manifest"]["path"]
        assert (run.folder / last).read_bytes() == run.manifest
        assert run.record("final", "COMMIT.json")["rounds"] == 2


class TestMeasures:
    def test_audit(self, run: Finished) -> None:
        facts = run.record("catalog", "COMMIT.json")
        assert facts["num_listed"] == facts["num_tiles"] == 240
        assert facts["num_duplicates"] == facts["num_quarantined"] == facts["num_left_out"] == 0
        for index in range(2):
            embedded = run.record(f"round-{index:03d}", "COMMIT.json")["embeddings"]
            assert sum(shard["rows"] for shard in embedded) == 240

    def test_every_set_is_measured(self, run: Finished) -> None:
        sets = run.result.measures["sets"]
        assert set(sets) == {"archive", "selected", "random"}
        for name, count in {"archive": 240, "selected": 24, "random": 24}.items():
            assert sets[name]["num_tiles"] == count
            assert sum(sets[name]["cluster_counts"]) == pytest.approx(count)
            assert sets[name]["classes"]["effective_classes"] > 1
        for name in ("selected", "random"):
            radii = sets[name]["covering_radius"]
            assert radii["100"] >= radii["99"] >= radii["95"] > 0

    def test_selection_is_more_even_than_random(self, run: Finished) -> None:
        first = run.record("round-000", "COMMIT.json")["measures"]["sets"]
        assert first["selected"]["effective_clusters"] > first["random"]["effective_clusters"]

    def test_churn_compares_with_the_round_before(self, run: Finished) -> None:
        first, second = (run.record(f"round-00{r}", "COMMIT.json") for r in range(2))
        ids = [
            set(pq.read_table(run.folder / r["manifest"]["path"])["tile_id"].to_pylist())
            for r in (first, second)
        ]
        assert first["measures"]["churn"] is None
        expected = 1 - len(ids[0] & ids[1]) / len(ids[0] | ids[1])
        assert second["measures"]["churn"] == pytest.approx(expected)

    def test_training_history_and_health(self, run: Finished) -> None:
        for index, tiles in enumerate((240, 24)):
            record = run.record(f"round-{index:03d}", "train", "done", "encoder.json")
            assert [epoch["epoch"] for epoch in record["history"]] == [0]
            assert np.isfinite(record["history"][0]["loss"])
            assert record["health"]
            stem = record["path"].rpartition(".")[0]
            assert run.record(f"{stem}.json")["description"]["training_tiles"] == tiles

    def test_later_rounds_train_on_the_manifest_only(self, run: Finished) -> None:
        first, second = (
            run.record(f"round-{index:03d}", "COMMIT.json")["encoder"]["fingerprint"]
            for index in range(2)
        )
        assert first != second


class TestSeveralTrainingWorkers:
    @pytest.mark.slow
    def test_train_one_encoder_together(
        self, ray_cluster: str, demo_archive: Path, tmp_path: Path
    ) -> None:
        assert ray_cluster
        together = {"epochs": 2, "batch_size": 32, "num_workers": 2}
        done = finish(trained(demo_archive, tmp_path / "run", rounds=1, training=together))
        history = done.record("round-000", "train", "done", "encoder.json")["history"]
        assert [epoch["epoch"] for epoch in history] == [0, 1]
        assert all(np.isfinite(epoch["loss"]) for epoch in history)
        assert done.result.num_rounds == 1


class TestAgain:
    def test_nothing_is_redone(self, run: Finished) -> None:
        again = run_rounds(run.config, reporter=QUIET)
        assert again == run.result
        files = snapshot(run.folder)
        assert records(files) == records(run.files)
        assert files.keys() == run.files.keys()
        assert {name for name in files if files[name] != run.files[name]} <= {"manifest.parquet"}
        assert files["manifest.parquet"][1] == run.files["manifest.parquet"][1]

    def test_interrupted_elsewhere_and_continued_gives_the_same_bytes(
        self, run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Other folder, other number of workers, and a failure after round 1 was embedded."""
        config = trained(run.config.archive.uri, tmp_path / "run", embedding={"num_workers": 1})

        def publish_or_fail(
            context: RunContext,
            selection: Selection,
            rows: pa.Table,
            round_index: int,
            lineage: Mapping[str, Any],
            **proof: Any,  # noqa: ANN401 - passed on
        ) -> Manifest:
            if round_index == 1:
                raise StorageError("The disk must have space; got none. Free some.")
            return publish(context, selection, rows, round_index, lineage, **proof)

        with monkeypatch.context() as patch:
            patch.setattr(runner, "publish", publish_or_fail)
            with pytest.raises(StorageError, match="Free some"):
                run_rounds(config, reporter=QUIET)
        stopped = snapshot(tmp_path / "run")
        assert "round-000/COMMIT.json" in stopped
        assert sum(name.startswith("round-001/embed/done/") for name in stopped) == 3
        assert "round-001/COMMIT.json" not in stopped
        assert "manifest.parquet" not in stopped

        continued = finish(config)
        assert {name: continued.files[name] for name in stopped} == stopped
        assert continued.manifest == run.manifest
        assert continued.result.measures == run.result.measures


class TestRefusals:
    def test_another_configuration(self, run: Finished) -> None:
        changed = run.config.model_copy(update={"seed": 1, "rounds": 5})
        with pytest.raises(ConfigError, match="must be continued as it was started") as caught:
            run_rounds(changed, reporter=QUIET)
        assert "config.rounds: 2 -> 5\n  config.seed: 0 -> 1\n" in str(caught.value)
        assert "another --out" in str(caught.value)

    def test_another_version(self, run: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "__version__", "99")
        with pytest.raises(ConfigError, match=r'code_version: "0\.1\.0" -> "99"'):
            run_rounds(run.config, reporter=QUIET)


@pytest.mark.s3
class TestObjectStore:
    def test_the_same_picks_as_on_the_disk(
        self, run: Finished, s3_bucket: str, demo_archive: Path
    ) -> None:
        """Archive, checkpoints, embeddings and manifest on S3; one round of the same training."""
        store = Store()
        base = f"{s3_bucket}/rounds"
        for path in demo_archive.glob("*.tar"):
            store.write_bytes(f"{base}/tiles/{path.name}", path.read_bytes())
        result = run_rounds(trained(f"{base}/tiles", f"{base}/run", rounds=1), reporter=QUIET)
        assert result.manifest_uri == f"{base}/run/manifest.parquet"
        local = read_table(
            Store(),
            str(run.folder / run.record("round-000", "COMMIT.json")["manifest"]["path"]),
        )
        remote = read_table(store, result.manifest_uri)
        same = ["tile_id", "rank", "cluster", "reason", "sha256", "class"]
        assert remote.select(same).to_pylist() == local.select(same).to_pylist()
        for name in ("distance", "weight"):
            assert remote[name].to_numpy().tobytes() == local[name].to_numpy().tobytes()
        assert all(uri.startswith(f"{base}/tiles/") for uri in remote["uri"].to_pylist())

        files = store.list_files(f"{base}/run")
        assert len(files) < 240 / 2  # never one object per tile
        for file in files:
            if file.uri.endswith(".json"):
                assert b"testing" not in store.read_bytes(file.uri)  # the test server's credentials
