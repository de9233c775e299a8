"""Two-round selection against the optimum found by trying every choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.selection.coresets import (
    Coreset,
    CoresetPicks,
    finalize_coreset,
    local_coreset,
    merge_coresets,
)
from balancer.selection.farthest_point import farthest_point, row_ids, seeded_first
from balancer.types import FloatArray, IdArray, IntArray
from tests.oracles.brute_force_k_center import optimum, trimmed_radius
from tests.selection.test_certificate import ROUNDING, tiny_points


def shards(
    points: FloatArray, ids: IdArray, owner: IntArray, num_picks: int, epsilon: float | None
) -> list[Coreset]:
    return [
        local_coreset(points[owner == s], ids[owner == s], num_picks, epsilon=epsilon, seed=1)
        for s in np.unique(owner)
    ]


def rows(ids: IdArray, found: IdArray) -> list[int]:
    return [ids.tolist().index(tile_id) for tile_id in found.tolist()]


def same(a: CoresetPicks, b: CoresetPicks) -> bool:
    return a.ids.tolist() == b.ids.tolist() and a.factor == b.factor and a.packing == b.packing


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(3, 9),
    num_picks=st.integers(1, 3),
    num_shards=st.integers(1, 3),
    epsilon=st.sampled_from([None, 0.01, 0.5, 2.0]),
)
@settings(max_examples=100, deadline=None)
def test_within_the_factor_of_the_optimum(
    seed: int, count: int, num_picks: int, num_shards: int, epsilon: float | None
) -> None:
    points, ids = tiny_points(seed, count), row_ids(count)
    owner = np.random.default_rng(seed).integers(0, num_shards, count)
    picks = finalize_coreset(
        merge_coresets(shards(points, ids, owner, num_picks, epsilon)), seed=seed
    )
    assert picks.factor <= (4 if epsilon is None else min(4, 2 + epsilon)) * ROUNDING
    chosen = rows(ids, picks.ids)
    assert len(set(chosen)) == num_picks
    assert (points[chosen] == picks.vectors).all()
    best = optimum(points, num_picks)
    assert trimmed_radius(points, chosen) <= picks.factor * best * ROUNDING + 1e-12
    # The packing proves its bound.
    assert picks.packing.radius / 2 <= best * ROUNDING
    witness = rows(ids, picks.packing_ids)
    if picks.packing.witness == "picks":
        assert picks.packing.farthest_tile_id is not None
        witness = [*chosen, int(picks.packing.farthest_tile_id)]
    assert len(set(witness)) == len(witness) == picks.packing.num_points
    for one in range(len(witness)):
        for other in range(one):
            apart = np.linalg.norm(points[witness[one]] - points[witness[other]])
            assert apart >= picks.packing.radius / ROUNDING


def test_by_hand() -> None:
    """Two shards on a line; k = 1. Hash order decides each first pick, so try all of them."""
    left, right = np.array([[0.0], [4.0]], np.float32), np.array([[10.0], [11.0]], np.float32)
    parts = [
        local_coreset(points, ids, 1, epsilon=None, seed=0)
        for points, ids in ((left, np.array(["a", "b"])), (right, np.array(["c", "d"])))
    ]
    assert [part.radius for part in parts] == [4.0, 1.0]
    merged = merge_coresets(parts)
    assert (merged.radius, merged.packing_radius, merged.sizes) == (4.0, 4.0, (1, 1))
    assert sorted(merged.packing_ids.tolist()) == ["a", "b"]
    picks = finalize_coreset(merged, seed=0)
    union = float(abs(merged.vectors[0, 0] - merged.vectors[1, 0]))
    assert picks.packing.radius == union  # 6 to 11, more than 4
    assert picks.epsilon == 2 * 4.0 / union


def test_the_picks_depend_on_neither_row_order_nor_shard_order() -> None:
    points = np.random.default_rng(3).standard_normal((90, 4)).astype(np.float32)
    ids, owner = row_ids(90), np.arange(90) % 3
    for epsilon in (None, 0.7):
        plain = shards(points, ids, owner, 5, epsilon)
        expected = finalize_coreset(merge_coresets(plain), seed=2)
        order = np.random.default_rng(0).permutation(90)
        mixed = shards(points[order], ids[order], owner[order], 5, epsilon)[::-1]
        assert same(expected, finalize_coreset(merge_coresets(mixed), seed=2))
        nested = merge_coresets([merge_coresets(plain[:2]), plain[2]])
        assert same(expected, finalize_coreset(nested, seed=2))


def test_one_shard_with_a_fine_criterion_is_farthest_point_selection() -> None:
    """With every row in the coreset, what is left is the exact algorithm."""
    points = np.random.default_rng(4).standard_normal((40, 3)).astype(np.float32)
    ids = row_ids(40)
    merged = local_coreset(points, ids, 6, epsilon=1e-9, seed=0)
    assert (merged.sizes, merged.radius, merged.num_capped) == ((40,), 0.0, 0)
    picks = finalize_coreset(merged, seed=8)
    exact = farthest_point(points, 6, first=seeded_first(ids, 8), ids=ids)
    assert picks.ids.tolist() == ids[exact.indices].tolist()
    assert (picks.factor, picks.epsilon) == (2.0, 0.0)


def test_the_coreset_is_the_smallest_that_meets_the_criterion() -> None:
    points = np.random.default_rng(5).standard_normal((300, 2)).astype(np.float32)
    ids = row_ids(300)
    whole = farthest_point(points, 300, first=seeded_first(ids, 0), ids=ids)
    for epsilon in (0.2, 0.5, 1.0, 1.9):
        coreset = local_coreset(points, ids, 7, epsilon=epsilon, seed=0)
        size = coreset.sizes[0]
        limit = epsilon / 2 * whole.distances[7]
        assert whole.distances[size] <= limit < whole.distances[size - 1]
        assert coreset.radius == whole.distances[size]
        assert coreset.ids.tolist() == ids[whole.indices[:size]].tolist()


def test_a_cap_is_reported_with_the_epsilon_it_leaves() -> None:
    points = np.random.default_rng(6).standard_normal((500, 8)).astype(np.float32)
    ids, owner = row_ids(500), np.arange(500) % 2
    parts = [
        local_coreset(points[owner == s], ids[owner == s], 4, epsilon=0.1, seed=0, max_size=9)
        for s in (0, 1)
    ]
    picks = finalize_coreset(merge_coresets(parts), seed=0)
    assert (picks.sizes, picks.num_capped) == ((9, 9), 2)
    assert 0.1 < picks.epsilon <= 2
    assert picks.factor == 2 + picks.epsilon
    radius = max(part.radius for part in parts)
    assert picks.epsilon == pytest.approx(2 * radius / picks.packing.radius)


def test_empty_and_small_shards() -> None:
    points = np.arange(6, dtype=np.float32)[:, None]
    ids = row_ids(6)
    empty = local_coreset(points[:0], ids[:0], 3, epsilon=0.5, seed=0)
    small = local_coreset(points[:2], ids[:2], 3, epsilon=0.5, seed=0)
    rest = local_coreset(points[2:], ids[2:], 3, epsilon=0.5, seed=0)
    picks = finalize_coreset(merge_coresets([empty, small, rest]), seed=0)
    assert len(picks.ids) == 3
    assert picks.sizes == (0, 2, 4)
    with pytest.raises(ValueError, match="3 picks must come from at least as many rows; got 2"):
        finalize_coreset(merge_coresets([empty, small]), seed=0)


def test_refusals() -> None:
    points, ids = np.zeros((4, 1), np.float32), row_ids(4)
    with pytest.raises(ValueError, match="num_picks must be at least 1; got 0"):
        local_coreset(points, ids, 0, epsilon=None, seed=0)
    with pytest.raises(ValueError, match="epsilon must be above 0, or None"):
        local_coreset(points, ids, 1, epsilon=0.0, seed=0)
    with pytest.raises(ValueError, match="at least the 3 picks, which every coreset has; got 2"):
        local_coreset(points, ids, 3, epsilon=0.5, seed=0, max_size=2)
    with pytest.raises(ValueError, match=r"all for the same number of picks; got \[\]"):
        merge_coresets([])
