"""The health study on two tiny runs: what it observes, what it writes, and that it continues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from balancer.storage.filesystem import Store
from jobs import health_study
from jobs.balance_study import ScoredRound, score_run
from tests.data.make_tiles import encode
from tests.data.tiny_runs import finish, frozen

pytestmark = pytest.mark.ray
LABELS = ("crops", "roads", "water")


def _archive(folder: Path) -> Path:
    """Write 12 noisy tiles for each of three classes that differ a little in brightness."""
    rng = np.random.default_rng(0)
    for number, label in enumerate(LABELS):
        (folder / label).mkdir(parents=True)
        for tile in range(12):
            pixels = np.clip(rng.normal(90 + 20 * number, 60, (16, 16, 3)), 0, 255)
            (folder / label / f"{label}{tile}.png").write_bytes(encode(pixels.astype(np.uint8)))
    return folder


@pytest.fixture(scope="module")
def runs(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return two finished runs of a labeled archive with a holdout: two pools."""
    assert ray_cluster
    root = tmp_path_factory.mktemp("health-study")
    tiles = _archive(root / "fields")
    found = []
    for pool in range(2):
        tail = {"imbalance": 4, "largest": 8, "holdout": 4, "seed": pool}
        done = finish(
            frozen(
                tiles,
                root / f"pool-{pool}",
                archive={"uri": str(tiles), "label_column": "label", "long_tail": tail},
                selection={"budget": 6, "strategy": "per-cluster"},
                measures={"compare": ["random", "farthest-point"], "compare_repeats": 2},
            )
        )
        found.append(str(done.folder))
    return found


def test_observations_and_tables(runs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    health_study.main(["--out", str(out), *runs])
    text = (out / "health.md").read_text()
    assert "| set | encoder | pools |" in text
    assert "| fields | frozen factory 16 px" in text
    assert "one set only" in text
    observations = sorted((out / "observations").iterdir())
    rows = [row for path in observations for row in json.loads(path.read_text())]
    assert sorted(row["pool"] for row in rows) == [0, 1]
    names = {f"{kind} of {s}" for kind in ("accuracy", "balance")
             for s in ("farthest-point", "per-cluster")}  # fmt: skip
    for row in rows:
        assert row["lifts"].keys() == names
        recorded = json.loads((Path(runs[row["pool"]]) / "round-000/COMMIT.json").read_text())
        assert row["measures"]["lidar"] == recorded["health"]["lidar"]
        assert "num_tiles" not in row["measures"]


def test_runs_that_recorded_less_are_measured_again(
    runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of an older run has no measure of views and none of the rows' shape."""
    config = health_study._config_of(Store(), runs[0])
    scored = score_run

    def older(*arguments: object) -> list[ScoredRound]:
        found = []
        for row in scored(*arguments):  # type: ignore[arg-type]
            health = {"effective_rank": row.commit["health"]["effective_rank"]}
            found.append(
                ScoredRound(
                    {**row.commit, "health": health}, row.encoder, row.ids, row.features, row.rows
                )
            )
        return found

    [whole] = health_study._observe(Store(), config, assess_again=True)
    with monkeypatch.context() as patch:
        patch.setattr(health_study, "score_run", older)
        [again] = health_study._observe(Store(), config, assess_again=True)
        [skipped] = health_study._observe(Store(), config, assess_again=False)
    assert again == whole
    assert {"effective_rank", "hubness", "cluster_variance"} <= skipped.measures.keys()
    assert "lidar" not in skipped.measures
    assert skipped.measures["intrinsic_dimension"] == pytest.approx(
        whole.measures["intrinsic_dimension"], rel=1e-3
    )


def test_the_second_time_nothing_is_measured(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    health_study.main(["--out", str(out), "--no-assess", runs[0]])
    first = (out / "health.md").read_bytes()

    def never(*_: object, **__: object) -> None:
        pytest.fail("the observation is there already")

    monkeypatch.setattr(health_study, "score_run", never)
    health_study.main(["--out", str(out), "--no-assess", runs[0]])
    assert (out / "health.md").read_bytes() == first


def test_a_folder_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_cluster: str
) -> None:
    assert ray_cluster
    with pytest.raises(SystemExit) as caught:
        health_study.main(["--out", str(tmp_path / "out"), str(tmp_path)])
    assert caught.value.code == 3
    assert "must be the folder of a run" in capsys.readouterr().err
