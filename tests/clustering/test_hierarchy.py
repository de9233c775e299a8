from __future__ import annotations

import numpy as np
import pytest

from balancer.clustering.assignment import assign
from balancer.clustering.hierarchy import (
    fit_hierarchy,
    fit_level,
    flattening_exponent,
    level_sizes,
    plan_resamplings,
)
from balancer.clustering.kmeans import ArrayRows
from balancer.config import ClusteringConfig
from balancer.selection.farthest_point import row_ids
from balancer.types import FloatArray
from tests.clustering.densities import measured_exponent, truncated_normal
from tests.clustering.sharded_rows import ShardedRows

CONFIG = ClusteringConfig(levels=(24, 6), resamplings=1, resample_rows=4, iterations=10)


def imbalanced(count: int = 600, dim: int = 4) -> FloatArray:
    rng = np.random.default_rng(0)
    group = rng.choice(6, count, p=[0.6, 0.2, 0.1, 0.05, 0.03, 0.02])
    centers = 4 * rng.standard_normal((6, dim))
    points: FloatArray = (centers[group] + rng.standard_normal((count, dim))).astype(np.float32)
    return points


def test_the_tree_belongs_together() -> None:
    points = imbalanced()
    found = fit_hierarchy(ArrayRows(points, row_ids(600)), 24, config=CONFIG, seed=0)
    assert found.centroids.shape == (24, 4)
    assert found.ancestors.shape == (1, 24)
    labels, _ = assign(points, found.centroids)
    assert np.bincount(labels, minlength=24).tolist() == found.sizes.tolist()
    finest, top = level_sizes(found)
    assert finest.sum() == top.sum() == 600
    assert len(top) == 6


@pytest.mark.parametrize("rule", ["nearest", "random"])
def test_any_sharding_gives_the_same_tree(rule: str) -> None:
    points = imbalanced()
    config = ClusteringConfig.model_validate(CONFIG.model_dump() | {"resample_rule": rule})
    whole = fit_hierarchy(ShardedRows(points, 1), 24, config=config, seed=3)
    for num_shards in (2, 5):
        parts = fit_hierarchy(ShardedRows(points, num_shards), 24, config=config, seed=3)
        assert parts.centroids.tobytes() == whole.centroids.tobytes()
        assert parts.ancestors.tolist() == whole.ancestors.tolist()
        assert parts.sizes.tolist() == whole.sizes.tolist()


def test_levels_and_resamplings_are_chosen_and_said() -> None:
    lines: list[str] = []
    rows = ArrayRows(imbalanced(), row_ids(600))
    config = ClusteringConfig(iterations=3, target_exponent=0.4)
    found = fit_hierarchy(rows, 32, config=config, seed=0, say=lines.append)
    assert found.ancestors.shape == (2, 32)  # 32, 8 and 2 clusters
    assert "intrinsic dimension" in lines[0]
    assert "3 levels and 0 resamplings" in lines[0]  # (4/6)^3 = 0.3
    assert "levels of 32, 8, 2 clusters" in lines[-1]


def test_resampling_that_takes_whole_clusters_is_said() -> None:
    points, lines = imbalanced(), list[str]()
    for resample_rows, levels in ((4, "2 (4.0)"), (100, "1 (")):
        config = ClusteringConfig(levels=(40, 10), resamplings=1, resample_rows=resample_rows)
        rows = ArrayRows(points, row_ids(len(points)))
        fit_hierarchy(rows, 40, config=config, seed=0, say=lines.append)
        [line] = [line for line in lines if "hardly flattens" in line]
        assert f"clustering.resample_rows ({resample_rows}) reaches" in line
        assert f"clusters of level {levels}" in line
        lines.clear()
    for fields in ({"resamplings": 1, "resample_rows": 3}, {"resamplings": 0}):
        config = ClusteringConfig.model_validate({"levels": (40, 10), **fields})
        fit_hierarchy(rows, 40, config=config, seed=0, say=lines.append)
    assert not any("hardly flattens" in line for line in lines)


def test_plans_meet_the_target_or_say_what_they_reach() -> None:
    for dimension in (1.0, 8.0, 30.0):
        plan = plan_resamplings((400, 100, 25), dimension, 0.3)
        assert plan.exponent <= 0.3
        assert plan.resamplings == 0 or (
            flattening_exponent(dimension, 3, plan.resamplings - 1) > 0.3
        )
    beyond = plan_resamplings((400,), 200.0, 0.3)
    assert (beyond.resamplings, round(beyond.exponent, 2)) == (10, 0.9)


def test_rows_that_are_all_alike() -> None:
    rows = ArrayRows(np.ones((20, 3), np.float32), row_ids(20))
    found = fit_hierarchy(rows, 8, config=ClusteringConfig(), seed=0)
    assert found.sizes.sum() == 20


def test_density_is_flattened_as_the_theory_says() -> None:
    """In one dimension a = 1/3; an exponent measured on 64 centroids is good to about 0.1."""
    rows = ArrayRows(truncated_normal(10_000, 1, seed=0), row_ids(10_000))
    config = ClusteringConfig(iterations=30, tolerance=0, seeds_per_cluster=64, resample_rows=32)

    def measured(resamplings: int) -> float:
        found = [measured_exponent(fit_level(rows, 64, resamplings, config, s)) for s in range(2)]
        return float(np.mean(found))

    assert measured(0) == pytest.approx(flattening_exponent(1, 1, 0), abs=0.1)
    assert measured(1) == pytest.approx(flattening_exponent(1, 1, 1), abs=0.1)
    assert measured(2) == pytest.approx(flattening_exponent(1, 1, 2), abs=0.1)


def test_refusals() -> None:
    rows = ArrayRows(imbalanced(20), row_ids(20))
    with pytest.raises(ValueError, match=r"max_skew and clustering\.fit_rows must be absent"):
        fit_hierarchy(rows, 4, config=ClusteringConfig(max_skew=2.0), seed=0)
    with pytest.raises(ValueError, match="begin with at most the 20 rows there are; got 24"):
        fit_hierarchy(rows, 4, config=CONFIG, seed=0)
    with pytest.raises(ValueError, match=r"levels must be numbers of clusters that fall"):
        ClusteringConfig(levels=(4, 4))
    with pytest.raises(ValueError, match=r"the first of levels \(8\) or absent; got 7"):
        ClusteringConfig(levels=(8, 2), num_clusters=7)
