"""The shape of embeddings, on rows whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import skew

from balancer.embedding.structure import (
    health_centroids,
    hubness,
    neighbors,
    spectral_decay,
    structure_of,
)
from balancer.types import DoubleArray


def _unit(rows: DoubleArray) -> DoubleArray:
    found: DoubleArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def _random(count: int, dim: int, seed: int = 0) -> DoubleArray:
    return np.random.default_rng(seed).normal(size=(count, dim))


def test_neighbors_leave_out_the_row_itself() -> None:
    rows = _unit(_random(50, 5))
    order, squared = neighbors(rows)
    assert order.shape == squared.shape == (50, 10)
    for row in range(50):
        distances = ((rows - rows[row]) ** 2).sum(axis=1)
        distances[row] = np.inf
        assert order[row].tolist() == np.argsort(distances, kind="stable")[:10].tolist()
    assert (np.diff(squared) >= 0).all()


def test_neighbors_of_few_rows() -> None:
    order, _ = neighbors(np.eye(3))
    assert order.shape == (3, 2)


def test_hubness_is_the_skewness_of_the_occurrences() -> None:
    order = np.random.default_rng(0).integers(0, 20, (20, 4))
    occurrences = np.bincount(order.reshape(-1), minlength=20)
    assert hubness(order, 20) == pytest.approx(skew(occurrences))


def test_hubness_grows_with_the_dimension() -> None:
    low, high = (neighbors(_unit(_random(400, dim)))[0] for dim in (3, 100))
    assert hubness(high, 400) > hubness(low, 400) + 0.3


def test_a_decay_needs_two_directions() -> None:
    assert spectral_decay(np.array([1.0, 0.0, 0.0])) is None
    assert spectral_decay(np.array([2.0, 1.0])) == pytest.approx(1.0)  # 2 * j^-1


def test_separate_heaps_are_explained_by_clusters() -> None:
    rng = np.random.default_rng(0)
    heaps = np.repeat(np.eye(8), 25, axis=0) + 0.01 * rng.normal(size=(200, 8))
    rows = _unit(heaps)
    found = structure_of(rows, health_centroids(rows))
    loose = _unit(_random(200, 8))
    other = structure_of(loose, health_centroids(loose))
    assert found.cluster_variance > 0.99
    assert other.cluster_variance < 0.8


def test_odd_rows_raise_the_outlier_ratio() -> None:
    rows = np.hstack([1 + 0.05 * _random(300, 2), np.zeros((300, 1))])
    plain = _unit(rows)
    rows[:6] = [[-1, 0, 1], [0, -1, 1], [-1, -1, 0], [1, -1, -1], [-1, 1, -1], [-2, -1, 3]]
    odd = _unit(rows)
    small = structure_of(plain, health_centroids(plain)).outlier_ratio
    assert structure_of(odd, health_centroids(odd)).outlier_ratio > 5 * small


def test_equal_rows_have_no_structure() -> None:
    rows = np.full((40, 4), 0.5)
    found = structure_of(rows, health_centroids(rows))
    assert (found.intrinsic_dimension, found.spectral_decay) == (None, None)
    assert (found.outlier_ratio, found.leading_variance, found.cluster_variance) == (1.0, 1.0, 0.0)


def test_leading_variance_by_hand() -> None:
    # Nine axes, each used by two opposite rows: the variance is the same along all nine.
    rows = np.vstack([np.eye(9), -np.eye(9)])
    found = structure_of(rows, health_centroids(rows))
    assert found.leading_variance == pytest.approx(8 / 9)
    assert found.spectral_decay == pytest.approx(0.0, abs=1e-9)
