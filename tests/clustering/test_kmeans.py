from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from balancer.clustering.assignment import assign
from balancer.clustering.initialization import kmeans_plus_plus
from balancer.clustering.kmeans import default_num_clusters, fit
from balancer.clustering.lloyd import (
    finalize_sums,
    inertia_of,
    local_sums,
    make_scale,
    merge_sums,
)
from balancer.config import ClusteringConfig
from balancer.distances import nearest_rows
from balancer.selection.farthest_point import row_ids
from balancer.selection.pool import ArrayPool
from balancer.types import FloatArray


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
