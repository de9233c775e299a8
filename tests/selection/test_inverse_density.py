"""Inverse-density sampling: the dimension, the balance it makes, unbiased weights, sharding."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.selection.inverse_density import intrinsic_dimension, sample_inverse_density
from balancer.selection.neighbors import nearest_neighbors
from balancer.selection.pool import ArrayPool
from balancer.selection.recipes import by_inverse_density
from balancer.types import FloatArray, IdArray
from tests.selection.sharded_pool import ShardedPool


def dense_and_sparse(seed: int = 0) -> tuple[FloatArray, IdArray]:
    """Return 900 rows in one unit square and 100 in another of the same size."""
    rng = np.random.default_rng(seed)
    points = rng.random((1000, 2))
    points[900:, 0] += 3
    return points.astype(np.float32), np.array([f"{number:04d}" for number in range(1000)])


def share_of_sparse(exponent: float) -> float:
    points, ids = dense_and_sparse()
    drawn, _ = sample_inverse_density(ArrayPool(points, ids), 100, exponent=exponent, seed=1)
    return float((drawn.astype(int) >= 900).mean())


def test_the_exponent_flattens_the_density() -> None:
    assert share_of_sparse(0.0) == pytest.approx(0.1, abs=0.08)
    assert share_of_sparse(1.0) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_dimension_of_a_cube(dim: int) -> None:
    points = np.random.default_rng(dim).random((3000, dim)).astype(np.float32)
    ids = np.arange(3000).astype(str)
    near = nearest_neighbors(points, ids, points, ids, 10)
    assert intrinsic_dimension(near.squared) == pytest.approx(dim, rel=0.15)


def test_weights_are_unbiased() -> None:
    points, ids = dense_and_sparse()
    pool = ArrayPool(points, ids)
    totals, sparse = [], []
    for seed in range(60):
        drawn, weights = sample_inverse_density(pool, 60, seed=seed)
        totals.append(weights.sum())
        sparse.append(weights[drawn.astype(int) >= 900].sum())
    for values, truth in ((totals, 1000), (sparse, 100)):
        error = np.std(values, ddof=1) / np.sqrt(60)
        assert abs(np.mean(values) - truth) < 4 * error


def test_included_rows_weigh_one_and_the_rest_is_unbiased() -> None:
    points, ids = dense_and_sparse()
    pool, include = ArrayPool(points, ids), ids[[950, 3, 400]]
    totals = []
    for seed in range(40):
        picked = by_inverse_density(pool, 40, exponent=1.0, seed=seed, include=include)
        assert picked.tile_ids[:3].tolist() == include.tolist()
        assert picked.weight[:3].tolist() == [1, 1, 1]
        assert len(set(picked.tile_ids.tolist())) == 40
        totals.append(picked.weight.sum())
    assert abs(np.mean(totals) - 1000) < 4 * np.std(totals, ddof=1) / np.sqrt(40)
    shards = ShardedPool(points, ids, 6)
    again = by_inverse_density(shards, 40, exponent=1.0, seed=39, include=include)
    assert again.tile_ids.tolist() == picked.tile_ids.tolist()
    assert again.weight.tobytes() == picked.weight.tobytes()
    alone = by_inverse_density(pool, 3, exponent=1.0, seed=0, include=include)
    assert alone.weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("num_shards", [2, 7, 40])
def test_any_sharding(num_shards: int) -> None:
    points, ids = dense_and_sparse()
    points, ids = points[::5].copy(), ids[::5]
    expected = sample_inverse_density(ArrayPool(points, ids), 30, seed=3)
    found = sample_inverse_density(ShardedPool(points, ids, num_shards), 30, seed=3)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tobytes() == expected[1].tobytes()


def test_copies_are_drawn_last_but_can_be() -> None:
    points = np.zeros((40, 2), np.float32)
    points[:10] = np.random.default_rng(0).random((10, 2))
    ids = np.array([f"{number:02d}" for number in range(40)])
    drawn, _ = sample_inverse_density(ArrayPool(points, ids), 12, seed=0)
    assert set(ids[:10].tolist()) <= set(drawn.tolist())
    assert len(set(drawn.tolist())) == 12


def test_a_dimension_without_distinct_neighbours() -> None:
    assert intrinsic_dimension(np.zeros((3, 2), np.float32)) == 1.0
