from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import SelectionConfig
from balancer.selection import select
from balancer.selection.bounds import Options
from balancer.selection.farthest_point import (
    Engine,
    Metric,
    farthest_point,
    on_device,
    row_ids,
    seeded_first,
)
from balancer.types import FloatArray, IdArray
from tests.oracles.plain_farthest_point import farthest_point_oracle, optimal_radius


def grid_points(seed: int, count: int, dim: int, scale: float = 1.0) -> FloatArray:
    """Points on a coarse grid: many duplicates and ties."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 3, (count, dim)) * scale).astype(np.float32)


def shuffled_ids(seed: int, count: int) -> IdArray:
    ids: IdArray = np.random.default_rng(seed).permutation(row_ids(count))
    return ids


def test_line_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.0], [10.0], [4.0]], dtype=np.float32)
    picks = farthest_point(line, 5, first=0)
    # 10 is farthest from 0; then 4 (4 from 0); then 2 (2 from both 0 and 4); then 1.
    assert picks.indices.tolist() == [0, 3, 4, 2, 1]
    assert picks.distances.tolist() == [np.inf, 10.0, 4.0, 2.0, 1.0]


def test_ties_go_to_the_lowest_id() -> None:
    square = np.array([[0, 0], [1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    assert farthest_point(square, 2, first=0).indices.tolist() == [0, 1]
    ids = np.array(["d", "c", "b", "a"])
    assert farthest_point(square, 2, first=0, ids=ids).indices.tolist() == [0, 3]


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 24),
    dim=st.sampled_from([1, 2, 7, 8, 9, 17]),
    scale=st.sampled_from([1e-6, 1.0, 3.7, 1e6]),
    grid=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(seed: int, count: int, dim: int, scale: float, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    points = (
        grid_points(seed, count, dim, scale)
        if grid
        else (rng.standard_normal((count, dim)) * scale).astype(np.float32)
    )
    ids = shuffled_ids(seed, count)
    num_picks, first = int(rng.integers(1, count + 1)), int(rng.integers(count))
    expected = farthest_point_oracle(points, ids, num_picks, first)
    assert farthest_point(points, num_picks, first=first, ids=ids).indices.tolist() == expected


def test_all_rows_is_a_permutation_and_duplicates_come_last() -> None:
    points = np.repeat(np.arange(5, dtype=np.float32)[:, None] ** 2, 2, axis=0)
    picks = farthest_point(points, 10, first=0)
    assert sorted(picks.indices.tolist()) == list(range(10))
    assert (picks.distances[:5] > 0).all()
    assert (picks.distances[5:] == 0).all()


def test_radii_never_increase_and_are_within_twice_the_optimum() -> None:
    for seed in range(5):
        points = np.random.default_rng(seed).standard_normal((11, 2)).astype(np.float32)
        picks = farthest_point(points, 11, first=0)
        assert (np.diff(picks.distances) <= 0).all()
        for centers in (1, 2, 3, 4):
            # The next pick's distance is the covering radius of the first `centers` picks.
            assert picks.distances[centers] <= 2 * optimal_radius(points, centers) + 1e-6


def test_starts_from_rows_selected_elsewhere() -> None:
    line = np.array([[0.0], [5.0], [9.0]], dtype=np.float32)
    picks = farthest_point(line, 2, selected=np.array([[8.0]], dtype=np.float32))
    assert picks.indices.tolist() == [0, 1]
    assert picks.distances.tolist() == [8.0, 3.0]


def test_excluded_rows_are_never_picked() -> None:
    line = np.array([[0.0], [1.0], [9.0]], dtype=np.float32)
    excluded = np.array([False, False, True])
    assert farthest_point(line, 2, first=0, excluded=excluded).indices.tolist() == [0, 1]
    with pytest.raises(ValueError, match="between 1 and the 2 rows that can be picked; got 3"):
        farthest_point(line, 3, first=0, excluded=excluded)


def test_seeded_first_does_not_depend_on_order() -> None:
    ids = row_ids(50)
    order = np.random.default_rng(0).permutation(50)
    assert ids[seeded_first(ids, 5)] == ids[order][seeded_first(ids[order], 5)]
    assert len({seeded_first(ids, seed) for seed in range(20)}) > 5


def test_refusals_name_the_row() -> None:
    points = np.zeros((3, 2), dtype=np.float32)
    points[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"must be finite; 1 of 3 rows .*\(tile ids 1\)"):
        farthest_point(points, 1)
    with pytest.raises(ValueError, match="got 4"):
        farthest_point(np.zeros((3, 2), dtype=np.float32), 4)
    with pytest.raises(ValueError, match="row number below 3; got 3"):
        farthest_point(np.zeros((3, 2), dtype=np.float32), 1, first=3)


class TestOptionsByHand:
    """Rows at 0, 1, 2, 10 and 4 on a line."""

    line = np.array([[0.0], [1.0], [2.0], [10.0], [4.0]], dtype=np.float32)

    def test_what_is_left(self) -> None:
        run = farthest_point(self.line, 3, first=0)
        assert (run.radius, run.farthest) == (2.0, 2)
        run = farthest_point(self.line, 5, first=0)
        assert (run.radius, run.farthest) == (0.0, -1)

    def test_included_rows_come_first(self) -> None:
        run = farthest_point(self.line, 4, include=[1, 4])
        assert run.indices.tolist() == [1, 4, 3, 0]
        assert run.distances.tolist() == [np.inf, 3.0, 6.0, 1.0]

    def test_the_outlier_is_left_out_and_named(self) -> None:
        run = farthest_point(self.line, 3, first=0, num_outliers=1)
        # 10 is skipped: 4 is the second farthest from 0, then 2 (2 from 0 and 4).
        assert run.indices.tolist() == [0, 4, 2]
        assert run.outliers.tolist() == [3]
        assert (run.radius, run.farthest) == (1.0, 1)

    def test_quality_weighs_the_distance(self) -> None:
        quality = np.array([1, 1, 1, 0.1, 1], dtype=np.float32)
        run = farthest_point(self.line, 3, first=0, quality=quality)
        # 10 counts as 1 away: 4 is next, then 2 at 2; 10 is 6 from 4, which counts as 0.6.
        assert run.indices.tolist() == [0, 4, 2]

    def test_cosine_ignores_length(self) -> None:
        points = np.array([[1, 0], [100, 1], [0, 0.01]], dtype=np.float32)
        assert farthest_point(points, 2, first=0, metric="cosine").indices.tolist() == [0, 2]

    def test_cosine_normalises_what_was_selected_elsewhere(self) -> None:
        points = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
        one = farthest_point(points, 4, selected=points[:1], metric="cosine")
        longer = farthest_point(points, 4, selected=4 * points[:1], metric="cosine")
        assert one.indices.tolist() == longer.indices.tolist()

    def test_a_memory_map_is_read_in_place(self, tmp_path: Path) -> None:
        points = np.random.default_rng(0).standard_normal((500, 9)).astype(np.float32)
        np.save(tmp_path / "points.npy", points)
        mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
        assert (
            farthest_point(mapped, 40).indices.tolist()
            == farthest_point(points, 40).indices.tolist()
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"first": 0, "include": [1]}, "either first or include"),
            ({"include": [1, 1]}, "include must name each row once"),
            ({"include": [9]}, "include must be a row number below 5; got 9"),
            ({"include": [0, 1, 2]}, "between 3 and the 5 rows that can be picked; got 2"),
            ({"num_outliers": -1}, "must not be negative; got -1"),
            ({"num_outliers": 4}, "between 1 and the 1 rows"),
            ({"quality": np.zeros(5)}, "quality must lie between 1e-06 and 1"),
            ({"selected": np.array([[np.nan]])}, "must be finite"),
            ({"metric": "cos"}, "metric must be one of"),
            ({"engine": "fast"}, "engine must be one of"),
            ({"ids": np.array(["a", "b"])}, r"ids must be one per row \(5\)"),
            ({"ids": np.array(["a"] * 5)}, "ids must be unique"),
            ({"quality": np.ones(4)}, "one number per row"),
            ({"excluded": np.zeros(4, bool)}, "excluded must be 5 booleans"),
            ({"selected": np.zeros((1, 2))}, r"selected must be a matrix \(N, 1\)"),
            ({"metric": "cosine"}, "must not be all zero"),
        ],
    )
    def test_refusals(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            farthest_point(self.line, 2, **options)

    @pytest.mark.parametrize("wrong", [2.5, "2", True, np.float32(2), None])
    @pytest.mark.parametrize("name", ["num_picks", "num_outliers"])
    def test_numbers_that_are_not_whole(self, name: str, wrong: Any) -> None:  # noqa: ANN401
        arguments = {"num_picks": 2} | {name: wrong}
        with pytest.raises(ValueError, match=rf"{name} must be a whole number; got .*{wrong}"):
            farthest_point(self.line, **arguments)
        assert len(farthest_point(self.line, np.int64(2)).indices) == 2  # type: ignore[arg-type]

    @pytest.mark.parametrize("kind", [np.complex64, np.str_, object, "datetime64[s]"])
    def test_what_is_no_real_number(self, kind: Any) -> None:  # noqa: ANN401
        with pytest.raises(ValueError, match="points must hold real numbers; got"):
            farthest_point(np.ones((3, 2)).astype(np.int64).astype(kind), 2)
        with pytest.raises(ValueError, match="selected must hold real numbers; got"):
            farthest_point(self.line, 2, selected=np.ones((1, 1), np.int64).astype(kind))
        with pytest.raises(ValueError, match="Embeddings must hold real numbers; got"):
            select(np.ones((3, 2)).astype(np.int64).astype(kind), 2)

    def test_rows_so_short_that_distances_underflow(self) -> None:
        tiny = self.line * np.float32(1e-25)
        with pytest.warns(RuntimeWarning, match=r"must have a row of 1e-19 or more in length"):
            farthest_point(tiny, 2)
        selection = SelectionConfig(budget=2, strategy="farthest-point")
        with pytest.raises(ValueError, match="squared distances underflow float32"):
            select(tiny, selection, normalize=False)
        assert len(select(tiny[1:], selection)) == 2
        assert len(select(np.zeros((3, 2)), selection, normalize=False)) == 2
        one_long = np.append(tiny, np.ones((1, 1), np.float32), axis=0)
        assert len(select(one_long, selection, normalize=False)) == 2
        mask = np.arange(len(one_long)) == len(tiny)
        with pytest.warns(RuntimeWarning, match="underflow"):
            farthest_point(one_long, 2, excluded=mask)

    def test_rows_too_long_for_float32_are_refused(self) -> None:
        with pytest.raises(ValueError, match="must be shorter than 1e"):
            farthest_point(np.array([[1e19], [0]], dtype=np.float32), 1)


@pytest.mark.parametrize("rows", [{"include": np.array([True, False])}, {"first": 1.7}])
def test_rows_are_whole_numbers(rows: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be whole row numbers; got (bool|float64) values"):
        farthest_point(np.eye(2, dtype=np.float32), 2, **rows)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("holds", [np.nan, np.inf, 1e30, 0.0])
def test_excluded_rows_may_hold_anything(metric: Metric, holds: float) -> None:
    rng = np.random.default_rng(4)
    points = rng.standard_normal((5000, 6)).astype(np.float32)
    excluded = rng.random(5000) < 0.3
    kept = np.flatnonzero(~excluded)
    quality = rng.uniform(0.2, 1, 5000)
    expected = farthest_point(
        points[kept], 300, quality=quality[kept], num_outliers=3, metric=metric
    )
    points[excluded], quality[excluded] = holds, holds
    choices: list[tuple[Engine, str]] = [("lazy", "blas"), ("plain", "blas"), ("lazy", "torch")]
    for engine, chosen in choices:
        count = 300 if engine == "lazy" else 40
        found = farthest_point(
            points,
            count,
            excluded=excluded,
            quality=quality,
            num_outliers=3,
            metric=metric,
            engine=engine,
            filter=chosen,
        )
        assert found.indices.tolist() == kept[expected.indices[:count]].tolist()
        assert found.distances.tobytes() == expected.distances[:count].tobytes()
    points[kept[9]] = np.nan
    with pytest.raises(ValueError, match=f"1 of 5000 rows hold NaN .*ids {kept[9]}\\)"):
        farthest_point(points, 5, excluded=excluded, metric=metric)


def test_excluded_rows_may_hold_anything_on_a_device() -> None:
    pytest.importorskip("torch")
    points = np.random.default_rng(4).standard_normal((500, 6)).astype(np.float32)
    excluded = np.arange(500) % 3 == 0
    expected = farthest_point(points, 50, excluded=excluded)
    points[excluded] = np.nan
    options = Options(excluded=excluded)
    bounds = on_device(points, np.arange(500), 50, options, "cpu")
    bounds.take(int(expected.indices[0]))
    bounds.run(50)
    assert bounds.picked.tolist() == expected.indices.tolist()
