"""The engine picks what the plain scan picks, whatever it is given and however it is tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.distances import distances_to
from balancer.selection import catch_up, engine
from balancer.selection.bounds import Options
from balancer.selection.engine import LazyBounds
from balancer.selection.farthest_point import farthest_point
from balancer.selection.plain_scan import plain_scan
from balancer.types import FloatArray

KINDS = ("general", "grid", "repeated", "identical", "offset", "clusters")
SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)


def make_points(
    kind: str, count: int, dim: int, scale: float, rng: np.random.Generator
) -> FloatArray:
    """Rows with no ties, ties, repetitions, one value, a large common offset, or dense clusters."""
    if kind == "general":
        points = rng.standard_normal((count, dim))
    elif kind == "grid":
        points = rng.integers(0, 3, (count, dim)).astype(float)
    elif kind == "repeated":
        few = max(1, count // 5)
        points = rng.standard_normal((few, dim))[rng.integers(0, few, count)]
    elif kind == "identical":
        points = np.ones((count, dim))
    elif kind == "offset":
        points = 1000 + 1e-3 * rng.standard_normal((count, dim))
    else:
        centers = rng.standard_normal((7, dim))
        points = centers[rng.integers(0, 7, count)] + 1e-3 * rng.standard_normal((count, dim))
    found: FloatArray = (points * scale).astype(np.float32)
    return found


def assert_same_run(points: FloatArray, num_picks: int, **options: Any) -> None:  # noqa: ANN401 - any option
    expected = farthest_point(points, num_picks, engine="plain", **options)
    found = farthest_point(points, num_picks, **options)
    assert found.indices.tolist() == expected.indices.tolist()
    assert found.distances.tobytes() == expected.distances.tobytes()
    assert found.outliers.tolist() == expected.outliers.tolist()
    assert (found.radius, found.farthest) == (expected.radius, expected.farthest)


def random_options(points: FloatArray, rng: np.random.Generator) -> tuple[int, dict[str, Any]]:
    """Draw a number of picks and any combination of options that allows it."""
    count = len(points)
    options: dict[str, Any] = {}
    free = np.arange(count)
    if rng.random() < 0.3:
        excluded = rng.random(count) < 0.2
        excluded[rng.integers(count)] = False
        options["excluded"] = excluded
        free = np.flatnonzero(~excluded)
    if rng.random() < 0.3:
        options["num_outliers"] = int(rng.integers(0, min(4, len(free))))
    num_picks = int(rng.integers(1, len(free) - options.get("num_outliers", 0) + 1))
    if rng.random() < 0.3:
        options["quality"] = rng.uniform(0.1, 1, count).astype(np.float32)
    if rng.random() < 0.3:
        options["include"] = rng.permutation(free)[: min(3, num_picks)]
    if rng.random() < 0.5:
        options["ids"] = np.array([f"{value:06d}" for value in rng.permutation(count)])
    if rng.random() < 0.3 and points.any(axis=1).all():
        options["metric"] = "cosine"
    elif rng.random() < 0.3:
        options["selected"] = points[rng.integers(0, count, 3)] * np.float32(1.5)
    return num_picks, options


class TestEqualsThePlainScan:
    @given(
        seed=st.integers(0, 1_000_000),
        kind=st.sampled_from(KINDS),
        count=st.sampled_from([1, 2, 3, 8, 40, 150, 700]),
        dim=st.sampled_from([1, 2, 3, 7, 8, 9, 16, 65]),
        scale=st.sampled_from(SCALES),
    )
    @settings(max_examples=200, deadline=None)
    def test_any_rows_and_options(
        self, seed: int, kind: str, count: int, dim: int, scale: float
    ) -> None:
        rng = np.random.default_rng(seed)
        points = make_points(kind, count, dim, scale, rng)
        num_picks, options = random_options(points, rng)
        assert_same_run(points, num_picks, **options)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("num_picks", [300, 1200])
    def test_many_picks_with_cells(self, kind: str, num_picks: int) -> None:
        """From 256 picks on, rows look at the picks of their own cell first."""
        points = make_points(kind, 4000, 12, 1.0, np.random.default_rng(5))
        assert_same_run(points, num_picks)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_large_archive(self, kind: str) -> None:
        points = make_points(kind, 60_000, 32, 1.0, np.random.default_rng(7))
        assert_same_run(points, 1500)


class TestTuningChangesNothing:
    """Block sizes, pools, threads: only the work differs."""

    @pytest.mark.parametrize("shares", [(1e-4, 1e-4), (0.03, 0.01), (0.5, 0.5), (1.0, 1.0)])
    @pytest.mark.parametrize("kind", ["grid", "clusters", "general"])
    def test_pools(self, kind: str, shares: tuple[float, float]) -> None:
        points = make_points(kind, 1500, 10, 1.0, np.random.default_rng(1))
        ranks = np.random.default_rng(2).permutation(1500)
        expected = plain_scan(points, 400, ranks, taken_first=[3])
        bounds = LazyBounds(points, ranks, 400, shares=shares)
        bounds.take(3)
        bounds.run(400)
        assert bounds.picked.tolist() == expected.picked.tolist()
        assert bounds.squared.tobytes() == expected.squared.tobytes()

    @pytest.mark.parametrize("waves", [(1, 2, 1 << 31), (7, 1 << 31), (1 << 31,)])
    def test_blocks(self, waves: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "WAVES", waves)
        points = make_points("clusters", 3000, 10, 1.0, np.random.default_rng(1))
        assert_same_run(points, 700)

    def test_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        points = make_points("general", 3000, 10, 1.0, np.random.default_rng(1))
        alone = farthest_point(points, 700).indices
        monkeypatch.setattr(engine, "PARALLEL_FROM", 0)
        assert farthest_point(points, 700).indices.tolist() == alone.tolist()


def test_bounds_are_canonical_distances_to_the_picks_they_have_seen() -> None:
    """The invariant that everything rests on."""
    points = make_points("clusters", 2000, 9, 1.0, np.random.default_rng(3))
    bounds = LazyBounds(points, np.arange(2000), 600)
    bounds.take(0)
    bounds.run(600)
    state = bounds.bounds
    distances = np.stack([distances_to(points, pick) for pick in state.picks], axis=1)
    numbers = np.arange(600)
    for row in np.flatnonzero(state.keys >= 0):
        seen = (numbers < state.old[row]) | (
            (numbers >= state.gap[row]) & (numbers < state.new[row])
        )
        true = distances[row].min()
        assert true <= state.keys[row] <= distances[row][seen].min()
        assert state.keys[row] in distances[row]
    assert 0 < bounds.num_pairs < 0.6 * distances.size


def test_duplicates_that_are_picked_last_are_recorded_as_picks() -> None:
    points = make_points("repeated", 200, 5, 1.0, np.random.default_rng(0))
    bounds = LazyBounds(points, np.arange(200), 190, Options(skip=3))
    bounds.take(0)
    bounds.run(190)
    assert bounds.squared[-1] == 0
    assert bounds.bounds.picks.tobytes() == points[bounds.picked].tobytes()
    expected = plain_scan(points, 190, np.arange(200), Options(skip=3), taken_first=[0])
    assert bounds.outliers()[0].tolist() == expected.outliers.tolist()


def test_the_filter_error_covers_every_order_of_summation() -> None:
    """The bound of `catch_up` against float32 products in three orders, hard cases included."""
    rng = np.random.default_rng(0)
    for dim in (1, 8, 64, 300):
        for spread in (1e-3, 1.0):
            rows = (rng.standard_normal((40, dim)) * spread).astype(np.float32)
            picks = (rows[:20] + 1e-4 * rng.standard_normal((20, dim))).astype(np.float32)
            exact = ((rows[:, None].astype(float) - picks[None]) ** 2).sum(axis=2)
            norms = (rows.astype(float) ** 2).sum(axis=1)
            sizes = (picks.astype(float) ** 2).sum(axis=1)
            allowed = catch_up.relative_error(dim) * (norms[:, None] + sizes[None])
            order = rng.permutation(dim)
            forward = np.cumsum(rows[:, None] * picks[None], axis=2, dtype=np.float32)[..., -1]
            shuffled = np.cumsum(
                rows[:, None, order] * picks[None][..., order], axis=2, dtype=np.float32
            )[..., -1]
            for products in (rows @ picks.T, forward, shuffled):
                found = (
                    norms.astype(np.float32)[:, None] + sizes.astype(np.float32)[None]
                ) - np.float32(2) * products
                assert (np.abs(found - exact) <= allowed).all()


def test_outliers_without_enough_rows_are_all_of_them() -> None:
    points = make_points("general", 5, 3, 1.0, np.random.default_rng(0))
    bounds = LazyBounds(points, np.arange(5), 3, Options(skip=2))
    bounds.take(0)
    bounds.run(3)
    outliers, squared, row = bounds.outliers()
    assert (len(outliers), squared, row) == (2, 0.0, -1)
