from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.selection.hierarchical_quotas import hierarchical_quota
from balancer.selection.quotas import water_filling


def test_by_hand() -> None:
    # Top: 40 and 200 rows share 60 as 30 and 30; below, 10 + 30 share 30 as 10 + 20.
    sizes = np.array([10, 30, 200])
    quota = hierarchical_quota(sizes, np.array([[0, 0, 1]]), 60)
    assert quota.counts.tolist() == [10, 20, 30]
    # Three levels: the two of level 2 lie in one cluster of level 3, so nothing is above them.
    deeper = hierarchical_quota(sizes, np.array([[0, 0, 1], [0, 0, 0]]), 60)
    assert deeper.counts.tolist() == [10, 20, 30]


def test_a_small_branch_leaves_its_share_to_the_others() -> None:
    quota = hierarchical_quota(np.array([3, 50, 50]), np.array([[0, 1, 1]]), 43)
    assert quota.counts.tolist() == [3, 20, 20]


def test_one_level_is_water_filling() -> None:
    sizes = np.array([100, 3, 50, 8])
    none = np.empty((0, 0), dtype=np.int64)
    expected = water_filling(sizes, 27, seed=5).counts
    assert hierarchical_quota(sizes, none, 27, seed=5).counts.tolist() == expected.tolist()


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=24),
    budget=st.integers(0, 400),
    seed=st.integers(0, 5),
)
def test_invariants(sizes: list[int], budget: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    second = rng.integers(0, 6, len(sizes))
    third = rng.integers(0, 2, 6)[second]
    quota = hierarchical_quota(np.array(sizes), np.array([second, third]), budget, seed=seed)
    assert (quota.counts <= sizes).all()
    assert quota.counts.sum() == min(budget, sum(sizes))
    assert quota.counts.sum() + quota.shortfall == budget
    # Within every parent the children are as equal as the rows below them allow.
    for parents, nodes in ((np.zeros_like(third), third), (third, second)):
        taken = np.bincount(nodes, quota.counts, minlength=6)
        below = np.bincount(nodes, sizes, minlength=6)
        for parent in np.unique(parents):
            children = np.unique(nodes[parents == parent])
            most = taken[children].max()
            assert ((taken[children] == below[children]) | (taken[children] >= most - 1)).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="one column per cluster"):
        hierarchical_quota(np.array([1, 2]), np.array([[0, 0, 0]]), 1)
    with pytest.raises(ValueError, match="must not be negative"):
        hierarchical_quota(np.array([1, 2]), np.array([[0, 0]]), -1)
