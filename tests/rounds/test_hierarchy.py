"""A run whose clusters are a hierarchy: it selects, resumes, verifies, and says what it does."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from balancer import run_rounds
from balancer.config_file import build_config
from balancer.errors import ConfigError
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from balancer.storage.selections import read_clustering
from balancer.verification.report import Status
from balancer.verification.verify import verify_manifest
from tests.data.tiny_runs import QUIET, frozen_tree, snapshot


@pytest.mark.ray
def test_a_run_in_levels(ray_cluster: str, demo_archive: Path, tmp_path: Path) -> None:
    assert ray_cluster
    config = build_config(
        frozen_tree(
            demo_archive,
            tmp_path / "run",
            rounds=1,
            selection={"budget": 24, "strategy": "hierarchical"},
            clustering={"levels": [12, 3], "resamplings": 1, "resample_rows": 4},
        )
    )
    log = io.StringIO()
    result = run_rounds(config, reporter=Reporter(log))
    assert "K = 12 as configured: 20.0 rows and 2.0 picks per cluster" in log.getvalue()
    assert "hierarchy: levels of 12, 3 clusters" in log.getvalue()
    table = pq.read_table(result.manifest_uri)
    assert set(table["reason"].to_pylist()) == {"hierarchical:farthest-point"}
    assert sum(table["weight"].to_pylist()) == pytest.approx(240)
    (path,) = (tmp_path / "run" / "round-000" / "cluster").rglob("*.parquet")
    found = read_clustering(pq.read_table(path), 0.0, "")
    assert found.ancestors.shape == (1, 12)
    report = verify_manifest(Store(), result.manifest_uri)
    assert [check for check in report.checks if check.status is Status.FAILED] == []
    before = snapshot(tmp_path / "run")
    assert run_rounds(config, reporter=QUIET) == result
    assert snapshot(tmp_path / "run").keys() == before.keys()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for changes, message in (
        ({"measures": {"compare": ["hierarchical"]}}, "compare can name hierarchical only"),
        (
            {
                "selection": {"budget": 4, "strategy": "hierarchical"},
                "clustering": {"max_skew": 2.0},
            },
            "max_skew must be absent",
        ),
        (
            {"clustering": {"spherical": True}, "embedding": {"normalize": False}},
            "spherical needs embedding.normalize",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            build_config(frozen_tree(tmp_path, tmp_path / "run", **changes))
