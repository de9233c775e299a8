from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.selection.farthest_point import (
    Candidate,
    FarthestPointShard,
    farthest_candidate,
    farthest_point,
    greedy_picks,
    row_ids,
    seeded_first,
)
from balancer.types import FloatArray, IdArray, IntArray
from tests.oracles.plain_farthest_point import farthest_point_oracle, optimal_radius


def grid_points(seed: int, count: int, dim: int, scale: float = 1.0) -> FloatArray:
    """Points on a coarse grid: many duplicates and ties."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 3, (count, dim)) * scale).astype(np.float32)


def shuffled_ids(seed: int, count: int) -> IdArray:
    ids: IdArray = np.random.default_rng(seed).permutation(row_ids(count))
    return ids


def pick_over_shards(
    points: FloatArray, ids: IdArray, num_picks: int, first: int, owner: IntArray
) -> list[str]:
    shards = [
        FarthestPointShard(np.ascontiguousarray(points[owner == s]), ids[owner == s])
        for s in np.unique(owner)
    ]

    def advance(pick: Candidate) -> Candidate | None:
        for shard in shards:
            shard.apply(pick.vector[None], [pick.tile_id])
        return farthest_candidate(shard.candidate() for shard in shards)

    start = Candidate(np.inf, str(ids[first]), points[first])
    return [pick.tile_id for pick in greedy_picks(start, num_picks, advance)]


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


@given(seed=st.integers(0, 10_000), num_shards=st.sampled_from([1, 2, 3, 8]))
@settings(max_examples=40, deadline=None)
def test_same_picks_for_any_sharding(seed: int, num_shards: int) -> None:
    rng = np.random.default_rng(seed)
    points = grid_points(seed, 60, 5)
    ids = shuffled_ids(seed, 60)
    owner = rng.integers(0, num_shards, 60)
    whole = farthest_point(points, 30, first=7, ids=ids).indices
    assert pick_over_shards(points, ids, 30, 7, owner) == ids[whole].tolist()


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
