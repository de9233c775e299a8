from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from balancer.comparison.paired_statistics import (
    EquivalentSize,
    equivalent_random_size,
    gap_closed,
    holm,
    mean_interval,
    paired_tests,
    unit_values,
)


def test_pools_are_the_units_where_there_are_several() -> None:
    assert unit_values([[1, 2, 3], [4, 5, 6]]).tolist() == [2, 5]
    assert unit_values([[1, 2, 3]]).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match=r"pools by seeds; got shape \(3,\)"):
        unit_values([1, 2, 3])


def test_interval_by_hand() -> None:
    found = mean_interval([1, 2, 3, np.nan])
    # t(.975, 2) = 4.3027; deviation 1; over sqrt(3).
    assert (found.mean, found.num_units) == (2, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert math.isnan(mean_interval([1.0]).low)
    assert mean_interval([np.nan]).num_units == 0


def test_paired_test_is_scipys() -> None:
    rng = np.random.default_rng(0)
    base, arm = rng.normal(size=8), rng.normal(0.5, size=8)
    found = paired_tests({"arm": arm}, base)["arm"]
    theirs = stats.ttest_rel(arm, base)
    assert found.p_value == pytest.approx(theirs.pvalue)
    low, high = theirs.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))


def test_values_without_spread() -> None:
    found = paired_tests({"same": [1, 2], "shifted": [2, 3], "one": [1, np.nan]}, [1, 2])
    assert (found["same"].p_value, found["shifted"].p_value) == (1, 0)
    assert math.isnan(found["one"].adjusted)
    with pytest.raises(ValueError, match=r"units of the baseline \(2,\); 'arm' has \(3,\)"):
        paired_tests({"arm": [1, 2, 3]}, [1, 2])


def test_holm_by_hand() -> None:
    # Ordered .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, and never falls: .04 .06 .06 .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    found = holm([0.01, float("nan"), 0.02])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_value_and_bonferroni(values: list[float]) -> None:
    for before, after in zip(values, holm(values), strict=True):
        assert before - 1e-12 <= after <= min(1, before * len(values)) + 1e-12


class TestGapClosed:
    def test_fieller_covers_the_true_share(self) -> None:
        rng = np.random.default_rng(1)
        covered = 0
        for _ in range(400):
            noise = rng.normal(size=(3, 6))
            found = gap_closed(4 + noise[0], noise[1], 10 + noise[2])
            covered += found.low <= 0.4 <= found.high
        assert covered / 400 == pytest.approx(0.95, abs=0.03)

    def test_no_gap_no_share(self) -> None:
        found = gap_closed([1.0, 2.0, 3.0], [1.0, 2.0, 2.0], [2.0, 1.0, 2.5])
        assert not found.has_gap
        assert (found.low, found.high) == (float("-inf"), float("inf"))
        assert found.gap.low < 0 < found.gap.high

    def test_exact_gains(self) -> None:
        found = gap_closed([3.0, 4.0], [1.0, 2.0], [5.0, 6.0])
        assert (found.share, found.low, found.high) == (0.5, 0.5, 0.5)

    def test_bootstrap_agrees_on_many_units(self) -> None:
        rng = np.random.default_rng(2)
        noise = rng.normal(size=(3, 200))
        arms = (4 + noise[0], noise[1], 10 + noise[2])
        exact = gap_closed(*arms)
        drawn = gap_closed(*arms, method="bootstrap", rng=np.random.default_rng(0))
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.005)
        again = gap_closed(*arms, method="bootstrap", rng=np.random.default_rng(0))
        assert drawn == again

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="same two or more units"):
            gap_closed([1.0], [1.0], [2.0])
        with pytest.raises(ValueError, match="must be given rng"):
            gap_closed([1.0, 2], [1.0, 2], [2.0, 3], method="bootstrap")


class TestEquivalentSize:
    SIZES = (100, 200, 400)

    def find(self, *arm: float, curve: tuple[float, ...] = (0.5, 0.6, 0.8)) -> EquivalentSize:
        rows = [list(curve)] * len(arm)
        return equivalent_random_size(self.SIZES, rows, arm, 100, np.random.default_rng(0))

    def test_between_two_sizes_by_logarithm(self) -> None:
        found = self.find(0.7, 0.7)
        assert found.size == pytest.approx((200 * 400) ** 0.5)
        assert found.factor == pytest.approx(8**0.5)
        assert (found.low, found.high) == (found.size, found.size)

    def test_beyond_the_curve(self) -> None:
        assert self.find(0.9, 0.9).size == float("inf")
        assert self.find(0.4, 0.4).size == 100
        found = self.find(0.55, 0.95)
        assert found.low == pytest.approx(2**0.5 * 100)
        assert found.high == float("inf")

    def test_a_curve_that_falls_is_made_level(self) -> None:
        # 0.6 and 0.5 become 0.55 both: reached at the first of the two.
        assert self.find(0.55, 0.55, curve=(0.6, 0.5, 0.8)).size == 100

    def test_refusals(self) -> None:
        rng = np.random.default_rng(0)
        with pytest.raises(ValueError, match="one row per unit"):
            equivalent_random_size([1, 2], [[1.0, 2.0]], [1.0, 2.0], 1, rng)
        with pytest.raises(ValueError, match="sizes must ascend"):
            equivalent_random_size([2, 2], [[1.0, 2.0]] * 2, [1.0, 2.0], 1, rng)
