"""A collapsed encoder: the run warns, falls back where it was told to, and says so everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import balancer.rounds.runner as runner
from balancer import run_rounds, select
from balancer.config import SelectionConfig
from balancer.errors import ConfigError, StorageError
from balancer.report.collect import collect
from balancer.report.page import render_page
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from balancer.verification import verify_manifest
from tests.data.tiny_runs import QUIET, Finished, finish, frozen, snapshot, tile_folder

pytestmark = pytest.mark.ray
DIVERSE = {"budget": 4, "strategy": "farthest-point", "fallback": "per-cluster"}
INSTEAD = "selected by per-cluster with random inside (selection.fallback) instead of farthest-poi"


class _Listening(Reporter):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warned: list[str] = []

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="module")
def run(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a run of a collapsed encoder that had to fall back."""
    assert ray_cluster
    root = tmp_path_factory.mktemp("fallback")
    tiles = tile_folder(root / "tiles")
    return finish(frozen(tiles, root / "run", "nearly_constant", selection=DIVERSE))


class TestFallback:
    def test_log_warnings_and_commit(self, run: Finished) -> None:
        listening = _Listening()
        run_rounds(run.config, reporter=listening)
        record = run.record("round-000", "COMMIT.json")
        assert tuple(listening.warned) == run.result.warnings == tuple(record["warnings"])
        collapsed, instead = listening.warned
        assert "The embedding has collapsed" in collapsed
        assert INSTEAD in instead
        assert collapsed in instead
        assert record["fallback"]["strategy"] == "per-cluster"

    def test_manifest(self, run: Finished) -> None:
        table = pq.read_table(run.folder / "manifest.parquet")
        assert set(table["reason"].to_pylist()) == {"per-cluster:random:fallback"}
        assert sum(table["weight"].to_pylist()) == pytest.approx(10)
        facts = json.loads(table.schema.metadata[b"balancer"])
        assert facts["config"]["selection"]["strategy"] == "farthest-point"
        assert facts["fallback"] == run.record("round-000", "COMMIT.json")["fallback"]
        assert facts["fallback"]["instead_of"] == "farthest-point"
        assert "collapsed" in facts["fallback"]["because"]

    def test_verifies(self, run: Finished) -> None:
        report = verify_manifest(Store(), str(run.folder / "manifest.parquet"))
        assert report.verified
        [strategy] = [check for check in report.checks if check.name == "strategy"]
        assert strategy.message == "per-cluster"

    def test_report(self, run: Finished) -> None:
        content = collect(Store(), str(run.folder))
        assert "in the last round per-cluster instead, see Health" in content.request.strategy
        assert INSTEAD in render_page(content)

    def test_continued_takes_the_recorded_decision(
        self, run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The run dies before it selects; the encoder's record already holds the verdict."""
        config = frozen(
            run.config.archive.uri, tmp_path / "run", "nearly_constant", selection=DIVERSE
        )

        def fail(*_: object, **__: object) -> None:
            raise StorageError("The disk must have space; got none. Free some.")

        with monkeypatch.context() as patch:
            patch.setattr(runner, "select", fail)
            with pytest.raises(StorageError, match="Free some"):
                run_rounds(config, reporter=QUIET)
        stopped = snapshot(tmp_path / "run")
        continued = finish(config)
        assert {name: continued.files[name] for name in stopped} == stopped
        assert continued.manifest == run.manifest

    def test_the_same_tiles_as_the_fallback_strategy_would_pick(
        self, run: Finished, tmp_path: Path
    ) -> None:
        plain = {"budget": 4, "strategy": "per-cluster", "within": "random"}
        direct = finish(
            frozen(run.config.archive.uri, tmp_path / "run", "nearly_constant", selection=plain)
        )
        tables = [pq.read_table(r.folder / "manifest.parquet") for r in (run, direct)]
        left, right = (table.drop_columns(["reason", "distance"]) for table in tables)  # NaN
        assert left.equals(right)


class TestNoFallback:
    def test_without_one_the_run_only_warns(self, run: Finished, tmp_path: Path) -> None:
        selection = {"budget": 4, "strategy": "farthest-point"}
        done = finish(
            frozen(run.config.archive.uri, tmp_path / "run", "nearly_constant", selection=selection)
        )
        [warning] = done.result.warnings
        assert "collapsed" in warning
        assert done.record("round-000", "COMMIT.json")["fallback"] is None
        table = pq.read_table(done.folder / "manifest.parquet")
        assert set(table["reason"].to_pylist()) == {"farthest-point"}
        assert b"instead_of" not in table.schema.metadata[b"balancer"]

    def test_the_same_rule_is_refused(self) -> None:
        for same in (
            {"strategy": "farthest-point", "fallback": "farthest-point"},
            {
                "strategy": "per-cluster",
                "fallback": "per-cluster",
                "fallback_within": "farthest-point",
            },
        ):
            with pytest.raises(ConfigError, match="fallback must be another rule"):
                frozen("tiles", "run", selection={"budget": 4} | same)

    def test_embeddings_alone_have_no_health(self, tmp_path: Path) -> None:
        request = EmbeddingsRequest("e.npy", str(tmp_path / "out.parquet"), DIVERSE)
        with pytest.raises(ConfigError, match="needs the health of the encoder"):
            select_embeddings(request)
        config = SelectionConfig(budget=4, strategy="farthest-point", fallback="per-cluster")
        with pytest.raises(ValueError, match="needs the health of the encoder"):
            select(np.eye(5), config)
