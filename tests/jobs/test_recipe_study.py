"""The recipe study on two tiny runs: what it writes, and that it continues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table
from jobs import recipe_study
from tests.data.make_tiles import encode
from tests.data.tiny_runs import finish, frozen

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def runs(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two finished runs, two pools, of three classes that differ in brightness."""
    assert ray_cluster
    root = tmp_path_factory.mktemp("recipe-study")
    rng = np.random.default_rng(0)
    for number, label in enumerate(("crops", "roads", "water")):
        (root / "tiles" / label).mkdir(parents=True)
        for tile in range(12):
            pixels = np.clip(rng.normal(90 + 20 * number, 60, (16, 16, 3)), 0, 255)
            path = root / "tiles" / label / f"{label}{tile}.png"
            path.write_bytes(encode(pixels.astype(np.uint8)))
    found = []
    for pool in range(2):
        tail = {"imbalance": 4, "largest": 8, "holdout": 4, "seed": pool}
        config = frozen(
            root / "tiles",
            root / "tiny" / f"pool-{pool}",
            archive={"uri": str(root / "tiles"), "label_column": "label", "long_tail": tail},
            selection={"budget": 6},
            rounds=1,
        )
        found.append(str(finish(config).folder))
    return found


def test_tables_of_two_pools(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--classes", "3", "--seeds", "2", "--shares", "0.4", "--out", str(tmp_path)]
    options += ["--only", "medoid", "--only", "mine", "--tune", "0", "--report", "1"]
    options += ["--recipe", "mine: {strategy: per-cluster, num_clusters: 2}", *runs]
    recipe_study.main(options)
    rows = read_table(Store(), str(tmp_path / "recipes.parquet")).to_pylist()
    assert {(row["variant"], row["pool"]) for row in rows} == {("tiny", 0), ("tiny", 1)}
    assert {row["recipe"] for row in rows} == {"random", "oracle", "medoid", "mine"}
    text = (tmp_path / "recipes.md").read_text()
    assert "Best on the pools to tune on ([0]): m" in text
    assert "**tiny, budget 40%, 1 pools.**" in text
    # Again: everything is stored, so neither tiles nor embeddings are read.
    monkeypatch.setattr(recipe_study, "_read_run", None)
    recipe_study.main(options)
    assert (tmp_path / "recipes.md").read_text() == text


def test_a_recipe_that_is_no_mapping(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--classes", "3", "--out", str(tmp_path), "--recipe", "medoid", *runs]
    with pytest.raises(SystemExit) as stopped:
        recipe_study.main(arguments)
    assert stopped.value.code == 2
    assert "--recipe must be 'NAME: {key: value}'; got 'medoid'" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        recipe_study.main(["--classes", "3", "--out", str(tmp_path), str(tmp_path)])
    assert stopped.value.code == 3
    assert "it has no spec.json" in capsys.readouterr().err


def test_pools_cut_from_a_run_of_the_whole_archive(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = Path(runs[0]).parents[1] / "tiles"
    config = frozen(
        tiles,
        tmp_path / "whole" / "run",
        archive={"uri": str(tiles), "label_column": "label"},
        selection={"budget": 6},
        rounds=1,
    )
    whole = str(finish(config).folder)
    options = ["--classes", "3", "--seeds", "1", "--shares", "0.4", "--only", "medoid"]
    options += ["--against", "medoid", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        recipe_study.main([*options, whole])
    options += ["--cut", "0,1", "--largest", "8", "--imbalance", "4", "--holdout", "4"]
    recipe_study.main([*options, whole])
    rows = read_table(Store(), str(tmp_path / "out" / "recipes.parquet")).to_pylist()
    cut = {(row["pool"], row["recipe"]): row for row in rows}
    assert {pool for pool, _ in cut} == {0, 1}
    # The encoder is frozen, so cutting gives the very scores of a run per pool.
    recipe_study.main([*options, *runs])
    rows = read_table(Store(), str(tmp_path / "out" / "recipes.parquet")).to_pylist()
    for row in rows:
        assert cut[row["pool"], row["recipe"]] | {"variant": "tiny"} == row
    monkeypatch.setattr(recipe_study, "_read_whole", None)
    recipe_study.main([*options, whole])
