"""The command line: what it prints and writes, exit codes, messages, and that it starts quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

from balancer.cli import exit_with_codes, main
from balancer.config import SelectionConfig, Strategy
from balancer.errors import DataError
from balancer.selection import select
from balancer.selection.farthest_point import row_ids
from balancer.storage.filesystem import Store
from balancer.storage.tile_metadata import MANIFEST_COLUMNS
from balancer.version import __version__
from jobs import circles
from tests.data.certified import rewrite, write_certified
from tests.data.tiny_runs import frozen_tree, tile_folder
from tests.selection.test_select import long_tailed


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)


class Call:
    """Runs the command line; keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        """Return the exit code."""
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        self.out, self.err = self._capsys.readouterr()
        return int(caught.value.code or 0)


class TestSelect:
    @pytest.fixture
    def matrix(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "vectors.npy", long_tailed()[0])
        return tmp_path / "vectors.npy"

    def table(self, ids: list[str] | list[int]) -> pa.Table:
        vectors = long_tailed()[0][: len(ids)]
        return pa.table({"tile_id": ids, "embedding": vectors.tolist()})

    def test_npy(self, call: Call, matrix: Path) -> None:
        out = matrix.with_name("manifest.parquet")
        assert call("select", matrix, "--budget", 20, "--seed", 7, "--out", out) == 0
        assert call.out == f"20 rows picked by hybrid-medoid: {out}\n"
        manifest = pq.read_table(out)
        assert manifest.column_names == list(MANIFEST_COLUMNS)
        assert manifest["rank"].to_pylist() == list(range(20))
        points = long_tailed()[0]
        names = np.arange(len(points)).astype(np.str_)
        expected = select(points, 20, ids=names, seed=7)
        assert manifest["tile_id"].to_pylist() == expected.tile_ids.tolist()
        facts = json.loads(manifest.schema.metadata[b"balancer"])
        assert facts["embeddings"] == str(matrix)
        assert (facts["seed"], facts["code_version"]) == (7, __version__)
        assert facts["config"]["selection"]["strategy"] == "hybrid-medoid"

    @pytest.mark.parametrize("strategy", ["random", "farthest-point", "per-cluster", "hybrid"])
    def test_parquet(self, call: Call, tmp_path: Path, strategy: str) -> None:
        table = self.table([f"tile-{number}" for number in range(60)])
        (tmp_path / "vectors").mkdir()
        for part, start in enumerate((0, 30)):
            renamed = table.slice(start, 30).rename_columns(["name", "vector"])
            pq.write_table(renamed, tmp_path / "vectors" / f"part-{part}.parquet")
        out = tmp_path / "manifest.parquet"
        code = call(
            *("select", tmp_path / "vectors", "--budget", 8, "--strategy", strategy),
            *("--id-column", "name", "--vector-column", "vector", "--out", out),
        )
        assert code == 0
        config = SelectionConfig.model_validate({"budget": 8, "strategy": strategy})
        names = np.array(table["tile_id"].to_pylist())
        expected = select(long_tailed()[0][:60], config, ids=names)
        assert pq.read_table(out)["tile_id"].to_pylist() == expected.tile_ids.tolist()

    def test_weights_of_every_row(self, call: Call, matrix: Path) -> None:
        out, weights = matrix.with_name("out.parquet"), matrix.with_name("weights.parquet")
        arguments = ("select", matrix, "--budget", 20, "--out", out, "--weights", weights)
        assert call(*arguments) == 0
        table = pq.read_table(weights)
        assert table.column_names == ["tile_id", "cluster", "weight"]
        assert table.num_rows == 500
        assert sum(table["weight"].to_pylist()) == pytest.approx(20)
        assert call(*arguments, "--strategy", "random") == 2
        assert "random has no rate for rows that it leaves" in call.err

    def test_keys_without_an_option(self, call: Call, tmp_path: Path) -> None:
        points = long_tailed()[0][:300]
        biome = np.array(["ice", "sand", None], dtype=object)[np.arange(300) % 10 // 4]
        table = pa.table(
            {"tile_id": row_ids(300), "embedding": points.tolist(), "biome": biome.tolist()}
        )
        pq.write_table(table, tmp_path / "rows.parquet")
        out = tmp_path / "out.parquet"
        keys = ("selection.quotas.axes={biome: uniform}", "selection.quotas.cap=6")
        more = [word for key in (*keys, "clustering.iterations=3") for word in ("--set", key)]
        arguments = ("select", tmp_path / "rows.parquet", "--budget", 30, "--out", out)
        within = ("--strategy", "per-cluster", "--within", "random", "--num-clusters", 8)
        assert call(*arguments, *within, *more) == 0
        picked = pq.read_table(out)
        rows = np.array(picked["tile_id"].to_pylist()).astype(int)
        shown = [sum(value == name for value in biome[rows]) for name in ("ice", "sand", None)]
        assert shown == [10, 10, 10]
        assert max(np.bincount(picked["cluster"].to_numpy())) <= 6
        footer = json.loads(picked.schema.metadata[b"balancer"])
        assert footer["config"]["selection"]["quotas"]["cap"] == 6
        assert footer["config"]["clustering"]["iterations"] == 3
        for key, message in (
            ("selection.quota.cap=6", "unknown key 'selection.quota'. Did you mean 'quotas'?"),
            ("selection.strategy=random", "must be given by its own option, --strategy"),
            ("clustering.num_clusters=4", "must be given by its own option, --num-clusters"),
            ("seed=1", "unknown key 'seed'. Valid keys: clustering, selection."),
            ("selection.deduplicate={threshold: 0.9}", "`balancer dedup` finds their near"),
            ("selection.fallback=random", "health"),
            ("selection.quotas.cap=0", "--set selection.quotas.cap=0: selection.quotas.cap: "),
        ):
            assert call(*arguments, *within, "--set", key) == 2, key
            assert message in call.err, (key, call.err)
        assert call(*arguments, *within, "--set", "selection.quotas.axes={soil: uniform}") == 3
        assert "soil" in call.err
        np.save(tmp_path / "rows.npy", points)
        matrix = ("select", tmp_path / "rows.npy", "--budget", 30, "--out", out, *within)
        assert call(*matrix, "--set", keys[0]) == 2
        assert "selection.quotas.axes must name a column of Parquet embeddings" in call.err

    def test_same_bytes_every_time(self, call: Call, matrix: Path) -> None:
        one, other = matrix.with_name("one.parquet"), matrix.with_name("other.parquet")
        for out in (one, other):
            assert call("select", matrix, "--budget", 20, "--out", out) == 0
        assert one.read_bytes() == other.read_bytes()

    def test_the_engine_changes_no_byte(self, call: Call, matrix: Path) -> None:
        written = []
        for options in ((), ("--filter", "torch"), ("--device", "cpu:0")):
            out = matrix.with_name("out.parquet")
            arguments = ("select", matrix, "--budget", 20, "--strategy", "farthest-point")
            assert call(*arguments, "--out", out, *options) == 0
            written.append(out.read_bytes())
        assert written == written[:1] * 3

    def test_an_engine_that_is_not_there(self, call: Call, matrix: Path) -> None:
        arguments = ("select", matrix, "--budget", 20, "--out", matrix.with_name("o.parquet"))
        assert call(*arguments, "--filter", "knn") == 2
        assert "filter: Input should be 'blas', 'fastest', 'torch'" in call.err
        assert call(*arguments, "--device", "tpu") == 2
        assert "device: String should match pattern" in call.err
        assert call(*arguments, "--device", "cuda", "--filter", "faiss") == 2
        assert "filter must be blas on the device cuda" in call.err

    @pytest.mark.s3
    def test_object_store(self, call: Call, s3_bucket: str, matrix: Path) -> None:
        store = Store()
        store.write_bytes(f"{s3_bucket}/cli/vectors.npy", matrix.read_bytes())
        out = f"{s3_bucket}/cli/manifest.parquet"
        assert call("select", f"{s3_bucket}/cli/vectors.npy", "--budget", 5, "--out", out) == 0
        assert call.out.endswith(f"{out}\n")
        assert store.read_bytes(out).startswith(b"PAR1")

    def test_wrong_dimensions(self, call: Call, tmp_path: Path) -> None:
        np.save(tmp_path / "flat.npy", np.ones(5, np.float32))
        out = tmp_path / "out.parquet"
        assert call("select", tmp_path / "flat.npy", "--budget", 2, "--out", out) == 3
        assert "flat.npy must hold a matrix" in call.err
        assert "got shape (5,)" in call.err
        assert not out.exists()

    def test_ragged_vectors(self, call: Call, tmp_path: Path) -> None:
        table = pa.table({"tile_id": ["a", "b"], "embedding": [[1.0, 2.0], [1.0]]})
        pq.write_table(table, tmp_path / "ragged.parquet")
        out = tmp_path / "out.parquet"
        assert call("select", tmp_path / "ragged.parquet", "--budget", 1, "--out", out) == 3
        assert "row 1 (tile 'b') has 1" in call.err

    def test_a_row_that_is_not_finite(self, call: Call, tmp_path: Path) -> None:
        vectors = long_tailed()[0]
        vectors[17, 2] = np.nan
        np.save(tmp_path / "vectors.npy", vectors)
        out = tmp_path / "out.parquet"
        assert call("select", tmp_path / "vectors.npy", "--budget", 2, "--out", out) == 3
        assert "vectors.npy: Embeddings must be finite; 1 of 500 rows" in call.err
        assert "(tile ids 17)" in call.err

    def test_budget_beyond_the_rows(self, call: Call, matrix: Path) -> None:
        assert call("select", matrix, "--budget", 501, "--out", matrix.with_name("o.parquet")) == 2
        assert f"the rows of {matrix} (500); got 501. Lower the budget" in call.err

    def test_a_row_of_zeros(self, call: Call, tmp_path: Path) -> None:
        vectors = long_tailed()[0]
        vectors[3] = 0
        np.save(tmp_path / "v.npy", vectors)
        arguments = ("select", tmp_path / "v.npy", "--budget", 5, "--out", tmp_path / "o.parquet")
        assert call(*arguments) == 3
        assert "(--no-normalize)" in call.err
        assert call(*arguments, "--no-normalize") == 0

    def test_whole_numbers(self, call: Call, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", np.arange(6).reshape(3, 2))
        arguments = ("--budget", 1, "--out", tmp_path / "o.parquet")
        assert call("select", tmp_path / "v.npy", *arguments) == 3
        assert "Save it as (N, D) float32" in call.err

    def test_unwritable_outputs(self, call: Call, matrix: Path) -> None:
        file = matrix.with_name("file")
        file.write_text("no folder")
        for out, problem in {
            "/proc/x/o.parquet": "/proc/x/o.parquet must be usable; got FileNotFoundError",
            f"{file}/x.parquet": f"{file}/x.parquet must ",
            f"{matrix.parent}": f"{matrix.parent} must be a file; got IsADirectoryError",
        }.items():
            assert call("select", matrix, "--budget", 1, "--out", out) == 4
            assert problem in call.err
        assert call("select", matrix, "--budget", 1, "--out", "s3:/bucket/x.parquet") == 2
        assert "two slashes, s3://bucket/key" in call.err

    def test_endpoint(self, call: Call, matrix: Path) -> None:
        """Nothing listens there, so an answer would have come from elsewhere."""
        url, out = "http://127.0.0.1:9", "s3://bucket/o.parquet"
        assert call("select", matrix, "--budget", 1, "--out", out, "--endpoint-url", url) == 4
        assert "Bucket 'bucket' must be" in call.err

    def test_interrupted(self, call: Call, matrix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("balancer.rounds.embeddings_only.select_embeddings", interrupt)
        assert call("select", matrix, "--budget", 1, "--out", "o.parquet") == 5
        assert "go on with the same command:" in call.err

    def test_missing_column(self, call: Call, tmp_path: Path) -> None:
        pq.write_table(self.table([1, 2, 3]).rename_columns(["id", "embedding"]), tmp_path / "v.pq")
        assert call("select", tmp_path / "v.pq", "--budget", 1, "--out", tmp_path / "o.pq") == 3
        assert "v.pq must have the column 'tile_id'; it has id, embedding." in call.err

    def test_repeated_ids(self, call: Call, tmp_path: Path) -> None:
        pq.write_table(self.table(["a", "b", "a"]), tmp_path / "v.pq")
        assert call("select", tmp_path / "v.pq", "--budget", 1, "--out", tmp_path / "o.pq") == 3
        assert "'a' is in rows 0 and 2" in call.err

    def test_missing_file(self, call: Call, tmp_path: Path) -> None:
        for name in ("none.npy", "none.parquet"):
            out = tmp_path / "o.parquet"
            assert call("select", tmp_path / name, "--budget", 1, "--out", out) == 3
            assert name in call.err
            assert "Check the path." in call.err
            assert "completion record" not in call.err

    def test_unknown_strategy(self, call: Call, matrix: Path) -> None:
        arguments = ("--budget", 5, "--strategy", "best", "--out", matrix.with_name("o.parquet"))
        assert call("select", matrix, *arguments) == 2
        assert "strategy: Input should be 'random', 'farthest-point'" in call.err

    def test_coreset_options(self, call: Call, matrix: Path) -> None:
        out = matrix.with_name("o.parquet")
        arguments = ("select", matrix, "--budget", 5, "--strategy", "composable-epsilon")
        options = ("--epsilon", 0.25, "--coreset-rows", 50, "--out", out)
        assert call(*arguments, *options) == 0
        facts = json.loads(pq.read_schema(out).metadata[b"balancer"])["config"]["selection"]
        assert (facts["epsilon"], facts["coreset_rows"]) == (0.25, 50)
        assert call(*arguments, "--coreset-rows", 4, "--out", out) == 2
        assert "coreset_rows must be at least the budget (5)" in call.err
        assert call(*arguments, "--epsilon", 0, "--out", out) == 2
        assert "epsilon: Input should be greater than 0" in call.err

    def test_help_lists_all_strategies(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert call("select", "--help") == 0
        words = " ".join(call.out.replace("\u2502", " ").split())
        assert ", ".join(get_args(Strategy)) in words

    def test_a_budget_that_is_a_share(self, call: Call, matrix: Path) -> None:
        out = matrix.with_name("o.parquet")
        arguments = ("select", matrix, "--strategy", "random", "--out", out)
        assert call(*arguments, "--budget", 0.1) == 0
        assert "50 rows picked by random" in call.out
        assert call("verify", out) == 0
        for budget in (2.5, "inf", "nan", -0.1):
            assert call(*arguments, "--budget", budget) == 2
            assert "budget" in call.err

    def test_budget_of_nothing(self, call: Call, matrix: Path) -> None:
        assert call("select", matrix, "--budget", 0, "--out", matrix.with_name("o.parquet")) == 2
        assert "budget: Input should be greater than 0" in call.err


class TestRun:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        tiles = tile_folder(tmp_path / "tiles")
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(frozen_tree(tiles, "elsewhere")))
        return path

    @pytest.mark.ray
    def test_run_and_report(self, call: Call, ray_cluster: str, config: Path) -> None:
        assert ray_cluster
        out = config.with_name("run")
        assert call("run", config, "--set", "selection.budget=5", "--out", out) == 0
        assert f"manifest  {out}/manifest.parquet" in call.out
        assert f"report    {out}/report.html" in call.out
        assert "the encoder is frozen" in call.out
        for heading in ("measure", "before", "random", "balanced", "effective classes"):
            assert heading in call.out
        assert pq.read_table(out / "manifest.parquet").num_rows == 5
        assert (out / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")

        page = config.with_name("page.html")
        assert call("report", out, "--out", page) == 0
        assert call.out == f"{page}\n"
        assert page.exists()

        assert call("run", config, "--set", "selection.budget=6", "--out", out) == 2
        assert "config.selection.budget: 5.0 -> 6.0" in call.err

    def test_unknown_key(self, call: Call, config: Path) -> None:
        config.write_text(f"archive:\n  uri: {config.parent}\nselection:\n  bugdet: 5\n")
        assert call("run", config) == 2
        assert f"{config}:4: unknown key 'selection.bugdet'. Did you mean 'budget'?" in call.err
        assert f"{config}:3: 'selection.budget' must be given" in call.err

    def test_wrong_override(self, call: Call, config: Path) -> None:
        assert call("run", config, "--set", "training.epochs=none") == 2
        assert "--set training.epochs=none: training.epochs: Input should be a valid" in call.err
        assert call("run", config, "--set", "training.epochs") == 2
        assert "--set takes dotted.key=value, such as seed=1" in call.err

    def test_missing_configuration(self, call: Call, tmp_path: Path) -> None:
        assert call("run", tmp_path / "none.yaml") == 2
        assert "none.yaml (No such file or directory)" in call.err

    def test_empty_archive(self, call: Call, config: Path) -> None:
        (config.parent / "empty").mkdir()
        assert call("run", config, "--set", f"archive.uri={config.parent / 'empty'}") == 3
        assert "must hold tiles" in call.err

    @pytest.mark.s3
    def test_missing_bucket(self, call: Call, s3_server: str, config: Path) -> None:
        assert s3_server
        assert call("run", config, "--out", "s3://no-such-bucket/run") == 4
        assert "Bucket 'no-such-bucket' must exist" in call.err

    def test_no_cluster_at_the_address(self, config: Path) -> None:
        """In a process of its own, which is not connected to the tests' cluster."""
        arguments = ["run", str(config), "--out", str(config.with_name("run")), *ADDRESS]
        script = f"from balancer.cli import main; main({arguments!r})"
        done = python(script, cwd=config.parent)
        assert done.returncode == 2, done.stderr
        assert "Ray must be reachable at ray.address='127.0.0.1:1'" in done.stderr

    def test_interrupted(self, call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("balancer.rounds.runner.run_rounds", interrupt)
        assert call("run", config) == 5
        assert "What is finished is kept; go on with the same command:" in call.err


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


ADDRESS = ["--ray-address", "127.0.0.1:1"]


class TestInit:
    def test_demo(self, call: Call, tmp_path: Path) -> None:
        for _ in range(2):  # the second call finds the archive there
            assert call("init", "--demo", tmp_path / "demo", "--tiles", 240) == 0
            assert call.out == f"240 tiles in 1 shards: {tmp_path / 'demo'}\n"
        assert len(list((tmp_path / "demo").glob("*.tar"))) == 1

    def test_too_few_tiles(self, call: Call, tmp_path: Path) -> None:
        assert call("init", "--demo", tmp_path / "demo", "--tiles", 10) == 2
        assert "at least 240" in call.err

    def test_unwritable_folder(self, call: Call) -> None:
        assert call("init", "--demo", "/proc/x/y", "--tiles", 240) == 4
        assert "/proc/x/y must be usable; got FileNotFoundError" in call.err

    def test_interrupted(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("balancer.demo.archive.write_archive", interrupt)
        assert call("init", "--demo", tmp_path / "demo") == 5
        assert "go on with the same command:" in call.err


class TestVerify:
    @pytest.fixture
    def manifest(self, tmp_path: Path) -> Path:
        return write_certified(tmp_path)[0]

    def test_table(self, call: Call, manifest: Path) -> None:
        assert call("verify", manifest) == 0
        lines = call.out.splitlines()
        assert lines[1].split(maxsplit=3) == [
            *("SKIPPED", "file", "digest"), "the manifest lies in no run folder",
        ]  # fmt: skip
        assert "PASSED  covering radii" in call.out
        assert lines[-1].endswith(f"0 failed, 3 skipped: {manifest}")

    def test_json(self, call: Call, manifest: Path) -> None:
        assert call("verify", manifest, "--json") == 0
        facts = json.loads(call.out)
        assert (facts["verified"], facts["manifest"]) == (True, str(manifest))
        assert {"name": "ranks", "status": "passed", "message": "0 to 19"} in facts["checks"]

    def test_a_failed_check(self, call: Call, manifest: Path) -> None:
        rewrite(manifest, lambda facts: facts["certificate"].update(ratio=1.0))
        for arguments in ((), ("--json",)):
            assert call("verify", manifest, *arguments) == 6
            assert f"{manifest} must hold what it says; it fails: lower bound and ratio" in call.err
        assert json.loads(call.out)["verified"] is False

    def test_embeddings_elsewhere(self, call: Call, manifest: Path) -> None:
        embeddings = manifest.with_name("embeddings.parquet")
        table = pq.read_table(embeddings).rename_columns(["name", "vector"])
        embeddings.unlink()
        moved = manifest.with_name("moved.parquet")
        pq.write_table(table, moved)
        assert call("verify", manifest) == 3
        assert f"got '{embeddings}': there is nothing there. Give them with" in call.err
        arguments = ("--embeddings", moved, "--id-column", "name", "--vector-column", "vector")
        assert call("verify", manifest, *arguments) == 0
        assert "PASSED  covering radii" in call.out

    def test_no_embeddings(self, call: Call, manifest: Path) -> None:
        rewrite(manifest, lambda facts: facts.pop("embeddings"))
        assert call("verify", manifest) == 6
        assert "SKIPPED covering radii" in call.out
        assert call.out.splitlines()[-1].startswith("The certificate was NOT verified")
        assert call.err == f"error: {manifest} is not verified: give --embeddings\n"
        assert call("verify", manifest, "--json") == 6
        facts = json.loads(call.out)
        assert (facts["verified"], facts["certificate_recomputed"]) == (False, False)
        assert (
            call("verify", manifest, "--embeddings", manifest.with_name("embeddings.parquet")) == 0
        )

    def test_no_certificate(self, call: Call, manifest: Path) -> None:
        rewrite(manifest, lambda facts: facts.pop("certificate"))
        assert call("verify", manifest) == 6
        assert "it fails: certificate." in call.err

    def test_a_quality_column_out_of_reach(self, call: Call, tmp_path: Path) -> None:
        rows = {"tile_id": [str(n) for n in range(500)], "embedding": long_tailed()[0].tolist()}
        pq.write_table(pa.table(rows), tmp_path / "bare.parquet")
        pq.write_table(pa.table(rows | {"q": [0.5, 1.0] * 250}), tmp_path / "rows.parquet")
        out = tmp_path / "o.parquet"
        arguments = ("--strategy", "farthest-point", "--quality-column", "q", "--out", out)
        assert call("select", tmp_path / "rows.parquet", "--budget", 9, *arguments) == 0
        assert call("verify", out) == 0
        assert call("verify", out, "--embeddings", tmp_path / "bare.parquet") == 6
        assert "weighted by a quality column; give --embeddings that have it" in call.err

    def test_unreadable(self, call: Call, manifest: Path) -> None:
        assert call("verify", manifest.with_name("none.parquet")) == 3
        assert "none.parquet must exist" in call.err
        assert call("verify", manifest, "--embeddings", manifest.with_name("none.npy")) == 3
        assert "found none of these" in call.err
        assert call("verify", manifest.with_name("embeddings.parquet")) == 3
        assert "must be a manifest" in call.err

    @pytest.mark.s3
    def test_object_store(self, call: Call, s3_bucket: str, manifest: Path) -> None:
        uri = f"{s3_bucket}/verify/manifest.parquet"
        Store().write_bytes(uri, manifest.read_bytes())
        assert call("verify", uri) == 0
        assert call.out.endswith(f"{uri}\n")

    @pytest.mark.parametrize("strategy", get_args(Strategy))
    def test_what_select_wrote(self, call: Call, tmp_path: Path, strategy: str) -> None:
        np.save(tmp_path / "vectors.npy", long_tailed()[0])
        out = tmp_path / "manifest.parquet"
        arguments = ("--budget", 20, "--strategy", strategy, "--out", out)
        assert call("select", tmp_path / "vectors.npy", *arguments) == 0
        assert call("verify", out) == 0
        assert f"500 rows of {tmp_path / 'vectors.npy'}" in call.out

    def test_interrupted(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("balancer.verification.verify_manifest", interrupt)
        assert call("verify", "manifest.parquet") == 5
        assert "go on with the same command:" in call.err

    def test_needs_neither_ray_nor_the_selection(self, manifest: Path) -> None:
        heavy = {"torch", "ray", "numba", "faiss", "sklearn"}
        assert not heavy & imported_by(["verify", str(manifest)])


class TestReport:
    def test_no_run(self, call: Call, tmp_path: Path) -> None:
        assert call("report", tmp_path / "nothing") == 3
        assert "nothing" in call.err

    def test_interrupted(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("balancer.report.collect.write_report", interrupt)
        assert call("report", "run") == 5
        assert "go on with the same command:" in call.err

    def test_endpoint_and_unwritable_page(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        endpoints = []

        def write(store: Store, _: str, out: str) -> str:
            endpoints.append(store.config.endpoint_url)
            store.write_bytes(out, b"page")
            return out

        monkeypatch.setattr("balancer.report.collect.write_report", write)
        url = "http://127.0.0.1:9"
        assert call("report", "run", "--out", "/proc/x/y", "--endpoint-url", url) == 4
        assert "/proc/x/y must be usable" in call.err
        assert endpoints == [url]


class TestCommandLine:
    def test_version(self, call: Call) -> None:
        assert call("version") == 0
        assert call.out == f"{__version__}\n"

    def test_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fail() -> None:
            raise DataError("Tiles must be images; got none.")

        with pytest.raises(SystemExit) as caught:
            exit_with_codes(fail)
        assert caught.value.code == 3
        assert capsys.readouterr().err == "error: Tiles must be images; got none.\n"

    def test_circles_job(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobs.circles.run_study", interrupt)
        monkeypatch.setattr(sys, "argv", ["circles", "--out", "runs/circles"])
        with pytest.raises(SystemExit) as caught:
            exit_with_codes(lambda: typer.run(circles.main))
        assert caught.value.code == 5
        assert "go on with the same command:" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["version"]])
    def test_help_is_quick(self, arguments: list[str]) -> None:
        assert not {"torch", "ray", "faiss", "pyarrow", "matplotlib"} & imported_by(arguments)

    def test_select_needs_no_ray(self, tmp_path: Path) -> None:
        np.save(tmp_path / "vectors.npy", long_tailed()[0][:50])
        arguments = ["select", str(tmp_path / "vectors.npy"), "--budget", "5", "--out"]
        assert not {"torch", "ray"} & imported_by([*arguments, str(tmp_path / "out.parquet")])
        assert (tmp_path / "out.parquet").exists()


def python(script: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip


def imported_by(arguments: list[str]) -> set[str]:
    """Return the top-level modules in memory after a command in a fresh process."""
    script = (
        "import sys\nfrom balancer.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "finally:\n    print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())
