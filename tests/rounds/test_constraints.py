"""Constraints through the configuration of a run and through `select_embeddings`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from balancer.config import Strategy
from balancer.errors import ConfigError, DataError
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.selection import STRATEGIES
from balancer.storage.filesystem import Store
from balancer.storage.manifests import read_manifest
from balancer.storage.tables import read_table, write_table
from balancer.verification import Status, verify_manifest
from tests.data.certified import DIM, Facts, made_embeddings, rewrite
from tests.data.tiny_runs import finish, frozen


def request(
    folder: Path,
    hole: float = np.nan,
    **selection: Any,  # noqa: ANN401 - fields
) -> EmbeddingsRequest:
    """Write embeddings with a column `q` and lists; return what selects from them."""
    ids, points = made_embeddings()
    points[50] += hole  # excluded below
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), DIM)
    quality = np.linspace(1, 5, len(ids))
    table = pa.table({"tile_id": ids.tolist(), "embedding": vectors, "q": quality})
    write_table(Store(), str(folder / "embeddings.parquet"), table)
    (folder / "include.txt").write_text("\n".join(ids[[7, 200, 31]]) + "\n")
    (folder / "exclude.csv").write_text("tile_id\n" + "\n".join(ids[50:80]) + "\nelsewhere\n")
    chosen = {
        "budget": 25,
        "include": str(folder / "include.txt"),
        "exclude": str(folder / "exclude.csv"),
    }
    uri, out = str(folder / "embeddings.parquet"), str(folder / "manifest.parquet")
    return EmbeddingsRequest(uri, out, chosen | selection)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_verify_accepts_every_strategy(tmp_path: Path, strategy: Strategy) -> None:
    select_embeddings(request(tmp_path, strategy=strategy))
    table, facts = read_manifest(Store(), str(tmp_path / "manifest.parquet"))
    assert table["tile_id"].to_pylist()[:3] == ["007", "200", "031"]
    assert table["reason"].to_pylist()[:3] == ["include"] * 3
    assert facts["certificate"]["num_rows"] == 270
    assert facts["excluded"]["rows"] == 31
    # The lists may be gone: what was excluded lies beside the manifest.
    (tmp_path / "exclude.csv").unlink()
    report = verify_manifest(Store(), str(tmp_path / "manifest.parquet"))
    assert report.verified, report
    assert {"exclusions", "inclusions"} <= set(report.named(Status.PASSED))


@pytest.mark.parametrize("changes", [{"num_outliers": 6}, {"quality_column": "q"}])
def test_verify_accepts_quality_and_outliers(tmp_path: Path, changes: dict[str, Any]) -> None:
    select_embeddings(request(tmp_path, strategy="farthest-point", **changes))
    report = verify_manifest(Store(), str(tmp_path / "manifest.parquet"))
    assert report.verified, report
    assert ("outliers" in report.named(Status.PASSED)) == ("num_outliers" in changes)


class TestForgeries:
    @pytest.mark.parametrize(
        ("change", "check"),
        [
            (lambda facts: facts.pop("excluded"), "covering radii"),
            (lambda facts: facts["excluded"].update(sha256="0" * 64), "exclusions"),
            (lambda facts: facts["config"]["selection"].update(exclude=None), "exclusions"),
            (lambda facts: facts["certificate"].update(num_included=2), "inclusions"),
            (lambda facts: facts.pop("included"), "inclusions"),
            (lambda facts: facts["included"].update(sha256="0" * 64), "inclusions"),
            (lambda facts: facts["outliers"].pop(), "outliers"),
            (lambda facts: facts["outliers"].__setitem__(0, "007"), "outliers"),
            (lambda facts: facts["outliers"].__setitem__(0, "000"), "outliers"),
            (lambda facts: facts["certificate"].update(factor=2.0), "factor"),
        ],
    )
    def test_are_found(self, tmp_path: Path, change: Any, check: str) -> None:  # noqa: ANN401 - any edit
        select_embeddings(request(tmp_path, 9.0, strategy="farthest-point", num_outliers=6))
        rewrite(tmp_path / "manifest.parquet", change)
        report = verify_manifest(Store(), str(tmp_path / "manifest.parquet"))
        assert not report.verified
        assert any(check in name for name in report.named(Status.FAILED)), report


def test_errors_name_the_tile(tmp_path: Path) -> None:
    wrong = request(tmp_path)
    (tmp_path / "include.txt").write_text("007\nnone\n")
    with pytest.raises(DataError, match="must be among the rows to pick from; none is not"):
        select_embeddings(wrong)
    (tmp_path / "include.txt").write_text("007\n055\n")
    with pytest.raises(ConfigError, match="must not share tiles; '055' is on both"):
        select_embeddings(wrong)
    with pytest.raises(ConfigError, match="quality_column must be absent for the strategy random"):
        select_embeddings(request(tmp_path, strategy="random", quality_column="q"))


def name_quality(column: str) -> Callable[[Facts], None]:
    """Return a change of the footer: another column, as if the selection were weighted by it."""

    def change(facts: Facts) -> None:
        facts["config"]["selection"]["quality_column"] = column

    return change


@pytest.mark.ray
class TestRun:
    def test_every_constraint(self, ray_cluster: str, folder: Path, tmp_path: Path) -> None:
        assert ray_cluster
        first = frozen(folder, tmp_path / "first", rounds=1)
        known = read_table(Store(), str(finish(first).folder / "manifest.parquet"))
        chosen = known["tile_id"].to_pylist()
        (tmp_path / "include.txt").write_text(f"{chosen[-1]}\n")
        (tmp_path / "exclude.txt").write_text(f"{chosen[0]}\n")
        lists = {name: str(tmp_path / f"{name}.txt") for name in ("include", "exclude")}
        selection = {"strategy": "farthest-point", "num_outliers": 1, "quality_column": "lon"}
        config = frozen(folder, tmp_path / "run", rounds=1, selection=selection | lists)
        with pytest.raises(DataError, match="must hold a finite number above 0 for every tile"):
            finish(config)  # the first tile of each class has the longitude 0
        for sidecar in folder.rglob("*.json"):
            facts = json.loads(sidecar.read_text())
            sidecar.write_text(json.dumps(facts | {"lon": facts["lon"] + 1}))
        config = frozen(folder, tmp_path / "run2", rounds=1, selection=selection | lists)
        finished = finish(config)
        table, facts = read_manifest(Store(), finished.result.manifest_uri)
        ids = table["tile_id"].to_pylist()
        assert ids[0] == chosen[-1]
        assert chosen[0] not in ids
        assert len(facts["outliers"]) == 1
        assert facts["certificate"]["num_rows"] == 9
        report = verify_manifest(Store(), finished.result.manifest_uri)
        assert report.verified, report
        recomputed = {"quality", "distances", "pick order", "outliers"}
        assert recomputed <= set(report.named(Status.PASSED))

        forged = Path(finished.result.manifest_uri)
        before = forged.read_bytes()
        for column, check in (("lat", "distances"), ("nowhere", "quality")):
            rewrite(forged, name_quality(column))
            assert check in verify_manifest(Store(), str(forged)).named(Status.FAILED)
        forged.write_bytes(before)
        assert finish(config).manifest == finished.manifest
        (tmp_path / "exclude.txt").write_text(f"{chosen[1]}\n")
        with pytest.raises(ConfigError, match="must be continued as it was started"):
            finish(config)

    def test_impossible_lists(self, ray_cluster: str, folder: Path, tmp_path: Path) -> None:
        assert ray_cluster
        (tmp_path / "include.txt").write_text("none\n")
        lists = {"include": str(tmp_path / "include.txt")}
        with pytest.raises(ConfigError, match=r"'none' of .*include\.txt is none"):
            finish(frozen(folder, tmp_path / "run", rounds=1, selection=lists))


def test_weights_of_every_row_with_all_constraints(tmp_path: Path) -> None:
    asked = replace(
        request(tmp_path, strategy="per-cluster", quality_column="q"),
        weights=str(tmp_path / "weights.parquet"),
    )
    select_embeddings(asked)
    picked, facts = read_manifest(Store(), str(tmp_path / "manifest.parquet"))
    weights = read_table(Store(), str(tmp_path / "weights.parquet"))
    assert weights.num_rows == 270
    assert sum(weights["weight"].to_pylist()) == pytest.approx(25)
    rate = dict(zip(weights["tile_id"].to_pylist(), weights["weight"].to_pylist(), strict=True))
    for tile, weight in zip(
        picked["tile_id"].to_pylist(), picked["weight"].to_pylist(), strict=True
    ):
        assert rate[tile] == pytest.approx(1 / weight)
    # The notes of both: what is excluded, and what quotas could not reach.
    assert facts["excluded"]["rows"] == 31
    assert isinstance(facts["quotas"], list)
    assert verify_manifest(Store(), str(tmp_path / "manifest.parquet")).verified
