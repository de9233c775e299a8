from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.selection.quotas import water_filling


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
