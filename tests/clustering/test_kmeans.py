from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from sklearn.cluster import KMeans

from balancer.clustering.assignment import assign
from balancer.clustering.initialization import (
    farthest_point_seeds,
    kmeans_plus_plus,
    random_seeds,
    weighted_plus_plus,
)
from balancer.clustering.kmeans import (
    ArrayRows,
    default_num_clusters,
    describe_num_clusters,
    fit,
)
from balancer.clustering.lloyd import (
    finalize_sums,
    inertia_of,
    local_sums,
    make_scale,
    merge_sums,
)
from balancer.config import ClusteringConfig, Seeding
from balancer.distances import nearest_rows
from balancer.selection.farthest_point import row_ids
from balancer.selection.pool import ArrayPool
from balancer.types import FloatArray
from tests.clustering.sharded_rows import ShardedRows


def blobs(seed: int, count: int = 400, dim: int = 9, groups: int = 6) -> FloatArray:
    rng = np.random.default_rng(seed)
    centers = 4 * rng.standard_normal((groups, dim))
    points = centers[rng.integers(0, groups, count)] + rng.standard_normal((count, dim))
    return points.astype(np.float32)


def test_assignment_by_hand() -> None:
    points = np.array([[0.0], [4.9], [5.0], [9.0]], dtype=np.float32)
    labels, squared = assign(points, np.array([[0.0], [10.0]], dtype=np.float32))
    assert labels.tolist() == [0, 0, 0, 1]  # 5.0 is equally far: the lower number wins
    assert squared.tolist() == [0.0, np.float32(4.9) ** 2, 25.0, 1.0]


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_faiss_filter_never_changes_the_canonical_answer(scale: float) -> None:
    points = (blobs(0, 500) * scale).astype(np.float32)
    centroids = np.concatenate([points[:40], points[:40], points[:40] + np.float32(1e-7) * scale])
    labels, squared = assign(points, centroids)
    expected, distances = nearest_rows(points, centroids)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(squared, distances)


@pytest.mark.parametrize("num_shards", [1, 2, 3, 8])
def test_sums_are_the_same_bits_for_any_sharding(num_shards: int) -> None:
    points, ids = blobs(1), row_ids(400)
    centroids = points[:7].copy()
    scale = make_scale(400, 9, float(np.abs(points).max()))
    whole = local_sums(points, ids, centroids, scale)
    owner = np.random.default_rng(num_shards).integers(0, num_shards, 400)
    parts = [
        local_sums(np.ascontiguousarray(points[owner == s]), ids[owner == s], centroids, scale)
        for s in range(num_shards)
    ]
    merged = merge_sums(parts[::-1])
    np.testing.assert_array_equal(merged.sums, whole.sums)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert merged.inertia == whole.inertia
    assert merged.far_ids.tolist() == whole.far_ids.tolist()
    np.testing.assert_array_equal(
        finalize_sums(merged, centroids, scale), finalize_sums(whole, centroids, scale)
    )


def test_centroids_are_the_means() -> None:
    points, ids = blobs(2), row_ids(400)
    centroids = points[:5].copy()
    scale = make_scale(400, 9, float(np.abs(points).max()))
    total = local_sums(points, ids, centroids, scale)
    labels, squared = assign(points, centroids)
    expected = [points[labels == k].astype(np.float64).mean(axis=0) for k in range(5)]
    np.testing.assert_allclose(finalize_sums(total, centroids, scale), expected, rtol=1e-6)
    assert inertia_of(total, scale) == pytest.approx(squared.sum(dtype=np.float64), rel=1e-9)


def test_fit_is_as_good_as_scikit_learn() -> None:
    points = blobs(3, 1000)
    config = ClusteringConfig(iterations=50)
    ours = fit(ArrayPool(points, row_ids(1000)), 6, config=config, seed=0)
    theirs = KMeans(6, n_init=10, random_state=0).fit(points)
    assert ours.inertia <= 1.05 * theirs.inertia_
    assert ours.sizes.sum() == 1000


def test_empty_clusters_restart_from_the_farthest_rows() -> None:
    points = np.array([[0.0], [0.1], [7.0], [9.0]], dtype=np.float32)
    centroids = np.array([[0.0], [100.0]], dtype=np.float32)
    scale = make_scale(4, 1, 9.0)
    total = local_sums(points, row_ids(4), centroids, scale)
    assert total.counts.tolist() == [4, 0]
    assert finalize_sums(total, centroids, scale)[1].tolist() == [9.0]


def test_identical_points_leave_clusters_empty() -> None:
    points = np.ones((10, 3), dtype=np.float32)
    found = fit(ArrayPool(points, row_ids(10)), 4, config=ClusteringConfig(), seed=0)
    assert sorted(found.sizes.tolist()) == [0, 0, 0, 10]
    assert found.inertia == 0.0


def test_plus_plus_draws_distinct_rows_and_refuses_too_many() -> None:
    sample = blobs(4, 30)
    drawn = kmeans_plus_plus(sample, 10, np.random.default_rng(0))
    assert len(np.unique(drawn, axis=0)) == 10
    with pytest.raises(ValueError, match="between 1 and the 30 sampled rows; got 31"):
        kmeans_plus_plus(sample, 31, np.random.default_rng(0))


def test_default_number_of_clusters() -> None:
    assert default_num_clusters(100, 10_000) == 20
    assert default_num_clusters(3, 10) == 1
    assert default_num_clusters(100, 7) == 7


def test_pruned_plus_plus_draws_what_the_plain_one_draws() -> None:
    sample = blobs(5, 300)
    uniforms = np.random.default_rng(1)
    chosen = [int(uniforms.integers(300))]
    numbers = uniforms.random(12)
    nearest = np.full(300, np.inf)
    for k in range(1, 12):
        newest = sample[chosen[-1]].astype(np.float64)
        nearest = np.minimum(nearest, ((sample - newest) ** 2).sum(axis=1).astype(np.float32))
        chosen.append(int(np.searchsorted(np.cumsum(nearest), numbers[k] * nearest.sum(), "right")))
    drawn = kmeans_plus_plus(sample, 12, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, sample[chosen])


def test_weights_of_zero_are_never_drawn_first() -> None:
    candidates = np.arange(4, dtype=np.float32)[:, None]
    weights = np.array([0, 0, 1, 0], dtype=np.float32)
    for seed in range(5):
        drawn = weighted_plus_plus(candidates, weights, 1, np.random.default_rng(seed))
        assert drawn.tolist() == [[2.0]]


def test_farthest_point_seeds_take_one_row_of_each_group() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(5), 20)
    points = (100 * np.eye(5)[group] + rng.random((100, 5))).astype(np.float32)
    seeds = farthest_point_seeds(points, 5, rng)
    assert sorted((seeds > 50).argmax(axis=1).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("draw", [kmeans_plus_plus, farthest_point_seeds, random_seeds])
def test_seedings_refuse_more_clusters_than_rows(draw: Callable[..., FloatArray]) -> None:
    with pytest.raises(ValueError, match="between 1 and the 3 sampled rows; got 4"):
        draw(np.eye(3, dtype=np.float32), 4, np.random.default_rng(0))


@pytest.mark.parametrize("init", get_args(Seeding))
def test_every_seeding_gives_the_same_for_any_sharding(init: Seeding) -> None:
    points = blobs(6, 500)
    config = ClusteringConfig(init=init, iterations=5, sample_per_cluster=16)
    whole = fit(ShardedRows(points, 1), 9, config=config, seed=2)
    assert len(np.unique(whole.centroids, axis=0)) == 9
    for num_shards in (2, 7):
        parts = fit(ShardedRows(points, num_shards), 9, config=config, seed=2)
        assert parts.centroids.tobytes() == whole.centroids.tobytes()
        assert parts.inertia == whole.inertia


@pytest.mark.parametrize("init", get_args(Seeding))
@pytest.mark.parametrize("num_clusters", [1, 5, 12, 40])
def test_few_distinct_rows(init: Seeding, num_clusters: int) -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    rows = ArrayRows(points, row_ids(12))
    found = fit(rows, num_clusters, config=ClusteringConfig(init=init), seed=0)
    assert found.sizes.sum() == 12
    assert found.num_clusters == min(num_clusters, 12)
    assert num_clusters < 3 or found.inertia == 0


def test_spherical_centroids_have_unit_length() -> None:
    points = blobs(7, 300)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    config = ClusteringConfig(spherical=True)
    found = fit(ArrayRows(points, row_ids(300)), 6, config=config, seed=0)
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-6)
    labels, _ = assign(points, found.centroids)
    cosines = points @ found.centroids.T  # the nearest of unit vectors has the greatest cosine
    best = np.take_along_axis(cosines, labels[:, None], axis=1)[:, 0]
    assert (best >= cosines.max(axis=1) - 1e-6).all()


def skewed(count: int = 900) -> FloatArray:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, 3))
    points[: count // 9] += 50 * rng.standard_normal((count // 9, 3))
    skew: FloatArray = points.astype(np.float32)
    return skew


def test_oversized_clusters_are_split_for_any_sharding() -> None:
    points = skewed()
    lines: list[str] = []
    plain = fit(ShardedRows(points, 1), 12, config=ClusteringConfig(), seed=0)
    assert plain.sizes.max() > 1.5 * 900 / 12
    config = ClusteringConfig(max_skew=1.5)
    split = fit(ShardedRows(points, 1), 12, config=config, seed=0, say=lines.append)
    assert split.sizes.max() <= 1.5 * 900 / 12
    assert split.sizes.sum() == 900
    assert any("were split; K is now" in line for line in lines)
    parts = fit(ShardedRows(points, 4), 12, config=config, seed=0)
    assert parts.centroids.tobytes() == split.centroids.tobytes()


def test_copies_of_one_row_cannot_be_split_and_are_named() -> None:
    points = skewed()
    lines: list[str] = []
    points[:500] = 1.0
    config = ClusteringConfig(max_skew=2.0)
    found = fit(ArrayRows(points, row_ids(900)), 10, config=config, seed=0, say=lines.append)
    assert found.sizes.max() >= 500
    assert any("1 clusters stay above 180 rows" in line for line in lines)


def test_a_sample_is_fitted_only_when_asked_and_said() -> None:
    points = blobs(8, 1000)
    silent: list[str] = []
    fit(ArrayRows(points, row_ids(1000)), 6, config=ClusteringConfig(), seed=0, say=silent.append)
    assert not any("fit_rows" in line for line in silent)
    lines: list[str] = []
    config = ClusteringConfig(fit_rows=200)
    found = fit(ShardedRows(points, 3), 6, config=config, seed=0, say=lines.append)
    assert "fitted on 200 of 1000 rows (20.00%) as clustering.fit_rows asks" in lines[0]
    assert found.sizes.sum() == 1000  # sizes are those of all rows
    whole = fit(ShardedRows(points, 1), 6, config=config, seed=0)
    assert whole.centroids.tobytes() == found.centroids.tobytes()
    labels, squared = assign(points, found.centroids)
    assert found.inertia == pytest.approx(squared.sum(dtype=np.float64), rel=1e-6)
    assert np.bincount(labels, minlength=6).tolist() == found.sizes.tolist()


def test_the_log_says_what_k_means() -> None:
    line = describe_num_clusters(300, 100, 1500, given=True)
    assert "K = 300 as configured: 5.0 rows and 0.3 picks per cluster" in line
    assert "more clusters than the budget of 100" in line
    assert "fewer than 10 rows per cluster" in line
    lines: list[str] = []
    fit(ArrayRows(blobs(9), row_ids(400)), 4, config=ClusteringConfig(), seed=0, say=lines.append)
    assert lines[0] == (
        "k-means: 4 seeds by k-means++ from 64 of 400 rows; the iterations that follow see every "
        "row"
    )
    more = ArrayRows(blobs(9, 1000), row_ids(1000))
    fit(more, 4, config=ClusteringConfig(), seed=0, say=lines.append)
    assert any("of 1000 rows, then 3 iterations on 256 of them; the" in line for line in lines)
    assert lines[-1].startswith("k-means: inertia")
    assert "skew" in lines[-1]
