"""The verifier's distances against the most obvious computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.distances import l2_normalize, nearest_rows
from balancer.types import DoubleArray, FloatArray
from balancer.verification import geometry
from balancer.verification.geometry import (
    agree,
    at_least,
    nearest_previous,
    nearest_squared,
    normalize_rows,
)


def all_squared(points: FloatArray, others: FloatArray) -> DoubleArray:
    difference = points[:, None].astype(np.float64) - others[None].astype(np.float64)
    squared: DoubleArray = (difference**2).sum(axis=-1)
    return squared


def made(seed: int, count: int, dim: int, scale: float, offset: float) -> FloatArray:
    """Points with duplicates and near-duplicates, perhaps far from the origin."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, dim))
    points[::3] = points[0]
    points[1::5] = points[0] + rng.standard_normal(dim) * 1e-4
    return (points * scale + offset).astype(np.float32)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    num_picks=st.integers(1, 12),
    dim=st.sampled_from([1, 3, 8, 33]),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    offset=st.sampled_from([0.0, 1e3]),
    block=st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_plain_computation(
    seed: int, count: int, num_picks: int, dim: int, scale: float, offset: float, block: int
) -> None:
    """Far from the origin the expanded form alone would lose every digit of small distances."""
    points = made(seed, count, dim, scale, offset)
    picks = made(seed + 1, num_picks, dim, scale, offset)
    picks[: len(points[:2])] = points[:2][: len(picks)]
    cuts = sorted({1, (num_picks + 1) // 2, num_picks})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "_ROWS", block)
        patch.setattr(geometry, "_COLUMNS", block + 1)
        patch.setattr(geometry, "_PAIRS", block)
        least, greatest = nearest_squared(points, picks, cuts)
        previous = nearest_previous(points)
    whole = all_squared(points, picks)
    np.testing.assert_allclose(least, whole.min(axis=1), rtol=1e-13, atol=0)
    expected = [whole[:, :cut].min(axis=1).max() for cut in cuts]
    np.testing.assert_allclose(greatest, expected, rtol=1e-13, atol=0)
    among = all_squared(points, points)
    among[np.triu_indices(count)] = np.inf
    np.testing.assert_allclose(previous, among.min(axis=1), rtol=1e-13, atol=0)


@given(seed=st.integers(0, 10_000), dim=st.sampled_from([1, 7, 8, 64, 129]))
@settings(max_examples=30, deadline=None)
def test_agrees_with_the_canonical_distance_within_the_stated_rounding(seed: int, dim: int) -> None:
    points = made(seed, 30, dim, 1.0, 0.0)
    canonical = nearest_rows(points, points[:4])[1]
    exact, _ = nearest_squared(points, points[:4], [4])
    for stated, found in zip(canonical, exact, strict=True):
        assert agree(float(np.sqrt(stated)), float(np.sqrt(found)))  # root in float32 too
        assert agree(float(np.sqrt(np.float64(stated))), float(np.sqrt(found)))


@given(seed=st.integers(0, 10_000), dim=st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_normalised_rows_have_the_same_bits(seed: int, dim: int) -> None:
    points = np.random.default_rng(seed).standard_normal((9, dim)).astype(np.float32)
    assert normalize_rows(points).tobytes() == l2_normalize(points).tobytes()


def test_agreement_is_as_fine_as_stated() -> None:
    assert agree(1.0, 1.0 + 2.0**-24)
    assert not agree(1.0, 1.0 + 2.0**-22)
    assert agree(0.0, 0.0)
    assert not agree(0.0, 1e-20)
    assert at_least(1.0, 1.0 + 2.0**-24)
    assert at_least(2.0, 1.0)
    assert not at_least(1.0, 1.0 + 2.0**-22)


def test_no_rows() -> None:
    least, greatest = nearest_squared(
        np.empty((0, 2), np.float32), np.ones((1, 2), np.float32), [1]
    )
    assert (len(least), greatest.tolist()) == (0, [0.0])
