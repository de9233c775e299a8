"""Agreement of two views, from perfect to none."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.embedding.structure import health_centroids
from balancer.embedding.view_agreement import ViewAgreement, lidar, view_agreement
from balancer.types import DoubleArray


def _views(noise: float, count: int = 300, dim: int = 16) -> tuple[DoubleArray, ...]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, dim))
    found = []
    for own in (noise, noise, 0.0):
        view = rows + own * rng.normal(size=rows.shape)
        found.append(view / np.linalg.norm(view, axis=1, keepdims=True))
    return tuple(found)


def _measured(noise: float) -> ViewAgreement:
    first, second, plain = _views(noise)
    return view_agreement(first, second, plain, health_centroids(plain))


def test_equal_views_agree_in_everything() -> None:
    found = _measured(0.0)
    assert found.retrieval_at_10 == found.neighbor_agreement == found.cluster_agreement == 1.0


def test_every_measure_falls_with_the_noise() -> None:
    good, middling, bad = (_measured(noise) for noise in (0.1, 1.0, 30.0))
    for name in ViewAgreement.__dataclass_fields__:
        if name != "lidar":  # noise alone looks the same in all directions
            values = [getattr(found, name) for found in (good, middling, bad)]
            assert values == sorted(values, reverse=True), name
    assert bad.retrieval_at_10 < 0.1
    assert bad.cluster_agreement == pytest.approx(0, abs=0.02)


def test_a_collapsed_embedding_retrieves_nothing() -> None:
    rows = np.full((30, 4), 0.5)
    assert view_agreement(rows, rows, rows, rows[:1].astype(np.float32)).retrieval_at_10 == 0.0


def test_lidar_counts_the_directions_that_tell_tiles_apart() -> None:
    rng = np.random.default_rng(0)
    tiles = rng.normal(size=(2000, 2)) @ np.eye(2, 10)  # tiles differ in two of ten directions
    first, second = (tiles + 0.01 * rng.normal(size=(2000, 10)) for _ in range(2))
    assert lidar(first, second) == pytest.approx(2, abs=0.1)


def test_lidar_against_the_formula() -> None:
    """Thilak et al. 2023, section 3, written out tile by tile."""
    first, second, _ = _views(0.5, 40, 5)
    centre = (first.mean(axis=0) + second.mean(axis=0)) / 2
    between, within = np.zeros((5, 5)), np.zeros((5, 5))
    for one, two in zip(first, second, strict=True):
        mean = (one + two) / 2
        between += np.outer(mean - centre, mean - centre) / 39
        for view in (one, two):
            within += np.outer(view - mean, view - mean) / 40
    within += 1e-4 * np.eye(5)
    values = np.linalg.eigvals(np.linalg.solve(within, between)).real
    shares = values / values.sum()
    assert lidar(first, second) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())))


def test_lidar_of_equal_rows_is_one() -> None:
    assert lidar(np.ones((5, 3)), np.ones((5, 3))) == 1.0
