from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.selection.quotas import allocate, water_filling
from tests.oracles.slow_allocation import slow_shares, slow_water_filling


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=30), budget=st.integers(0, 400))
def test_invariants(sizes: list[int], budget: int) -> None:
    quota = water_filling(np.array(sizes), budget, seed=1)
    assert (quota.counts <= sizes).all()
    assert quota.counts.sum() + quota.shortfall == budget
    assert quota.counts.sum() == min(budget, sum(sizes))
    # As equal as sizes allow: a cluster gives two fewer than another only if it is exhausted.
    for size, count in zip(sizes, quota.counts, strict=True):
        assert count == size or count >= quota.counts.max() - 1


def test_remainder_depends_on_the_seed_only() -> None:
    sizes = np.full(10, 100)
    first = water_filling(sizes, 15, seed=1).counts
    assert (first == water_filling(sizes, 15, seed=1).counts).all()
    assert any((first != water_filling(sizes, 15, seed=s).counts).any() for s in range(2, 6))


def test_shortfall_is_reported() -> None:
    quota = water_filling(np.array([2, 3]), 9)
    assert quota.counts.tolist() == [2, 3]
    assert quota.shortfall == 4


def test_negative_budget() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        water_filling(np.array([1]), -1)


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=12), budget=st.integers(0, 90))
def test_equal_shares_are_those_of_one_tile_at_a_time(sizes: list[int], budget: int) -> None:
    found = water_filling(np.array(sizes), budget).counts
    expected = slow_water_filling(np.array(sizes), budget)
    # The remainder goes to other clusters, but to as many.
    assert sorted(found.tolist()) == sorted(expected.tolist())


@given(
    clusters=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 5), st.integers(5, 40)),
        min_size=1,
        max_size=15,
    ),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    repeats=st.integers(1, 3),
    budget=st.integers(75, 500),
)
def test_shares_are_rounded_and_stay_in_their_limits(
    clusters: list[tuple[int, int, int]], alpha: float, repeats: int, budget: int
) -> None:
    sizes, floors, caps = (np.array(column) for column in zip(*clusters, strict=True))
    high = np.minimum(repeats * sizes, caps)
    low = np.minimum(floors, high)
    quota = allocate(sizes, budget, alpha=alpha, repeats=repeats, floors=low, caps=caps, seed=2)
    assert (low <= quota.counts).all()
    assert (quota.counts <= high).all()
    assert quota.counts.sum() == min(budget, high.sum()) == budget - quota.shortfall
    exact = slow_shares(sizes, budget, alpha, low, high)
    assert np.abs(quota.counts - exact).max() < 1 + 1e-6


def test_exponent_by_hand() -> None:
    sizes = np.array([1600, 400, 100, 1])
    assert allocate(sizes, 71, alpha=0.5).counts.tolist() == [40, 20, 10, 1]
    assert allocate(sizes, 2101, alpha=1.0).counts.tolist() == sizes.tolist()
    assert allocate(sizes, 210, alpha=1.0).counts.tolist() == [160, 40, 10, 0]
    assert allocate(sizes, 210, alpha=0.0).counts.tolist() in (
        [70, 70, 69, 1],
        [70, 69, 70, 1],
        [69, 70, 70, 1],
    )


def test_floors_of_what_must_be_included() -> None:
    quota = water_filling(np.array([50, 50, 50]), 20, floors=np.array([14, 0, 1]))
    assert quota.counts.tolist() == [14, 3, 3]


def test_order_of_the_clusters_does_not_move_shares() -> None:
    sizes = np.random.default_rng(0).integers(1, 1000, 200)
    order = np.random.default_rng(1).permutation(200)
    for alpha in (0.0, 0.5):
        straight = allocate(sizes, 5000, alpha=alpha).counts
        shuffled = allocate(sizes[order], 5000, alpha=alpha).counts
        assert np.abs(straight[order] - shuffled).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha must lie between 0"),
        ({"repeats": 0}, "repeats must be 1 or more; got 0"),
        ({"floors": np.array([4, 9])}, "cluster 1 can give 5, its floor is 9"),
        ({"floors": 5}, r"add up to more than the budget \(6\); got 10"),
        ({"caps": -1}, "must not be negative; got -1"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(np.array([5, 5]), 6, **options)
