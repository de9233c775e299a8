from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.imbalance.measures import (
    churn,
    class_balance,
    count_labels,
    effective_number,
    gini,
    kl_to_uniform,
    rare_classes,
)
from balancer.imbalance.radius import (
    covering_radii,
    find_rank,
    lower_counts,
    merge_counts,
    radius_from_bits,
    rank_of,
    upper_counts,
)


def test_one_group_holds_everything() -> None:
    counts = np.array([10, 0, 0, 0])
    assert effective_number(counts) == pytest.approx(1.0)
    assert gini(counts) == pytest.approx(0.75)
    assert kl_to_uniform(counts) == pytest.approx(np.log(4))


def test_two_to_one_by_hand() -> None:
    counts = np.array([2, 1])
    # entropy = ln 3 - (2/3) ln 2; Gini = |2 - 1| / (2 * 3)
    assert effective_number(counts) == pytest.approx(3 / 2 ** (2 / 3))
    assert gini(counts) == pytest.approx(1 / 6)


def test_churn_of_equal_and_disjoint_sets() -> None:
    a, b = np.array(["x", "y"]), np.array(["u", "v"])
    assert churn(a, a) == 0.0
    assert churn(a, b) == 1.0


def test_rare_classes_include_the_tie_at_the_percentile() -> None:
    # Five sizes: the 25th percentile is the second smallest itself.
    assert rare_classes(np.array([50, 7, 30, 9, 12]), 25).tolist() == [1, 3]


def test_class_balance_by_hand() -> None:
    archive = np.array([100, 50, 8, 2])
    balance = class_balance(np.array([4, 4, 4, 2]), archive, rare_percentile=25)
    assert balance.std == pytest.approx(np.std([4, 4, 4, 2]))
    assert balance.rare_share == pytest.approx(2 / 14)
    assert balance.rare_coverage == pytest.approx(1.0)


def test_count_labels() -> None:
    assert count_labels(["b", "a", "b"], ["a", "b", "c"]).tolist() == [1, 2, 0]


@given(
    values=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=3),
)
@settings(deadline=None)
def test_radii_are_exact_order_statistics_for_any_sharding(
    values: list[float], cuts: list[int]
) -> None:
    squared = np.array(values, dtype=np.float32)
    shards = np.split(squared, sorted(min(c, len(squared)) for c in cuts))
    radii = covering_radii(squared)
    upper = merge_counts(upper_counts(shard) for shard in shards)
    for share in (1.0, 0.99, 0.95):
        rank = rank_of(share, len(squared))
        expected = float(np.sqrt(np.float64(np.sort(squared)[rank - 1])))
        key, within = find_rank(upper, rank)
        low, _ = find_rank(merge_counts(lower_counts(s, key) for s in shards), within)
        assert radius_from_bits(key, low) == expected
        assert radii[f"{share:.0%}".rstrip("%")] == expected
