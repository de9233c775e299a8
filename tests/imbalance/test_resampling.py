from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.imbalance.label_measures import imbalance_ratios, mean_imbalance_ratio
from balancer.imbalance.multilabel_resampling import (
    FillOrder,
    class_order,
    fill_over,
    fill_under,
    lp_ros,
    ml_ros,
)
from balancer.imbalance.resampling import oversample, undersample
from balancer.types import BoolArray

ORDERS: list[FillOrder] = [
    "rarest_first",
    "most_frequent_first",
    "first_appearance",
    "alphabetical",
]


def one_hot(*sizes: int) -> BoolArray:
    """Return a matrix with so many rows of each class."""
    return np.eye(len(sizes), dtype=np.bool_)[np.repeat(np.arange(len(sizes)), sizes)]


@st.composite
def matrices(draw: st.DrawFn) -> BoolArray:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    return rng.random((rows, classes)) < rng.random(classes) * 0.7


class TestOneLabel:
    def test_sizes_of_ade20k_as_published(self) -> None:
        # 20 classes from 2,241 down to 98; both thresholds give exactly uniform classes.
        sizes = np.linspace(98, 2241, 20).astype(int)
        matrix = one_hot(*sizes)
        under = undersample(matrix, 98, np.random.default_rng(0), as_published=True)
        over = oversample(matrix, 2241, np.random.default_rng(0))
        assert (len(under), len(over)) == (1960, 44820)
        assert (matrix[under].sum(axis=0) == 98).all()
        assert (matrix[over].sum(axis=0) == 2241).all()

    def test_under_keeps_small_classes_whole(self) -> None:
        matrix = one_hot(10, 3, 5)
        rows = undersample(matrix, 5, np.random.default_rng(0))
        assert matrix[rows].sum(axis=0).tolist() == [5, 3, 5]
        assert len(np.unique(rows)) == 13
        assert set(range(10, 18)) <= set(rows.tolist())

    def test_over_leaves_a_class_at_the_target_as_it_is(self) -> None:
        matrix = one_hot(4, 1)
        rows = oversample(matrix, 4, np.random.default_rng(0))
        assert rows.tolist() == [0, 1, 2, 3, 4, 4, 4, 4]

    def test_equal_seeds_give_equal_rows(self) -> None:
        matrix = one_hot(30, 20)
        draws = [undersample(matrix, 7, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]

    def test_refusals(self) -> None:
        two = np.ones((3, 2), np.bool_)
        with pytest.raises(ValueError, match="3 of 3 have none or several"):
            undersample(two, 1, np.random.default_rng(0))
        with pytest.raises(ValueError, match="at least 1 tile per class; got 0"):
            oversample(one_hot(1, 1), 0, np.random.default_rng(0))
        with pytest.raises(ValueError, match="one has none"):
            undersample(one_hot(1, 0), 1, np.random.default_rng(0), as_published=True)


class TestFilling:
    def test_orders_by_hand(self) -> None:
        matrix = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 0, 0]], dtype=bool)
        found = {order: class_order(matrix, order).tolist() for order in ORDERS}
        assert found == {
            "rarest_first": [1, 0, 2],
            "most_frequent_first": [2, 0, 1],
            "first_appearance": [2, 1, 0],
            "alphabetical": [0, 1, 2],
        }
        assert class_order(matrix, "alphabetical", ("c", "a", "b")).tolist() == [1, 2, 0]
        with pytest.raises(ValueError, match="order must be one of rarest_first"):
            class_order(matrix, "sideways")  # type: ignore[arg-type]

    @settings(max_examples=60, deadline=None)
    @given(matrices(), st.integers(1, 12), st.sampled_from(ORDERS), st.integers(0, 99))
    def test_invariants(self, matrix: BoolArray, target: int, order: FillOrder, seed: int) -> None:
        numbers = class_order(matrix, order)
        counts = matrix.sum(axis=0)
        under = fill_under(matrix, target, numbers, np.random.default_rng(seed))
        assert (np.diff(under) > 0).all()
        assert (matrix[under].sum(axis=0) >= np.minimum(target, counts)).all()
        assert (fill_under(matrix, target, numbers, np.random.default_rng(seed)) == under).all()
        over = fill_over(matrix, target, numbers, np.random.default_rng(seed))
        assert over[: len(matrix)].tolist() == list(range(len(matrix)))
        assert (matrix[over].sum(axis=0)[counts > 0] >= target).all()
        assert (fill_over(matrix, target, numbers, np.random.default_rng(seed)) == over).all()

    @settings(max_examples=30, deadline=None)
    @given(matrices(), st.integers(1, 12), st.sampled_from(ORDERS))
    def test_repeats_of_a_class_carry_it(
        self, matrix: BoolArray, target: int, order: FillOrder
    ) -> None:
        over = fill_over(matrix, target, class_order(matrix, order), np.random.default_rng(0))
        added = matrix[over[len(matrix) :]]
        counts = matrix.sum(axis=0)
        for number in class_order(matrix, order):
            missing = max(0, target - counts[number]) if matrix[:, number].any() else 0
            assert added[:missing, number].all()
            counts += added[:missing].sum(axis=0)
            added = added[missing:]
        assert len(added) == 0

    def test_refusals(self) -> None:
        matrix = np.ones((2, 2), np.bool_)
        with pytest.raises(ValueError, match="every one of 2 classes once"):
            fill_under(matrix, 1, np.array([0, 0]), np.random.default_rng(0))
        with pytest.raises(ValueError, match="at least 1 tile"):
            fill_over(matrix, 0, np.array([0, 1]), np.random.default_rng(0))


class TestMlRos:
    def test_stops_when_no_minority_label_is_left(self) -> None:
        # Ratios 1, 1, 16: mean 6. The third label reaches a ratio of 6 at 16 / 6, so at 3 tiles.
        matrix = one_hot(16, 16, 1)
        rows = ml_ros(matrix, 1.0, np.random.default_rng(0))
        assert rows[33:].tolist() == [32, 32]

    def test_adds_no_more_than_asked(self) -> None:
        matrix = one_hot(100, 100, 100, 100, 100, 1)
        assert len(ml_ros(matrix, 0.006, np.random.default_rng(0))) == 501 + 3

    def test_minority_labels_take_turns(self) -> None:
        matrix = one_hot(400, 400, 400, 400, 400, 2, 1)
        rows = ml_ros(matrix, 0.003, np.random.default_rng(0))
        assert (rows[2003:] >= 2000).all()
        assert [row >= 2002 for row in rows[2003:]] == [False, True, False, True, False, True]

    @settings(max_examples=30, deadline=None)
    @given(matrices(), st.floats(0, 2))
    def test_repeats_only_minority_tiles(self, matrix: BoolArray, growth: float) -> None:
        if not matrix.any():
            return
        counts = matrix.sum(axis=0)
        rare = np.nan_to_num(imbalance_ratios(counts)) > mean_imbalance_ratio(counts)
        rows = ml_ros(matrix, growth, np.random.default_rng(0))
        assert len(rows) - len(matrix) <= growth * len(matrix)
        assert matrix[rows[len(matrix) :]][:, rare].any(axis=1).all()

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="0 or more; got -1"):
            ml_ros(one_hot(1), -1, np.random.default_rng(0))
        with pytest.raises(ValueError, match="Some tile must have a label"):
            lp_ros(np.zeros((2, 2), np.bool_), 0.1, np.random.default_rng(0))


class TestLpRos:
    def test_what_a_bag_does_not_take_goes_to_the_next(self) -> None:
        # Three sets of labels, 20, 8 and 2 tiles, mean 10: of 9 tiles the second bag takes 2 of its
        # half, and the third the other 7.
        matrix = np.array([[1, 0]] * 20 + [[0, 1]] * 8 + [[1, 1]] * 2, dtype=bool)
        rows = lp_ros(matrix, 0.3, np.random.default_rng(0))[30:]
        assert Counter(map(tuple, matrix[rows].astype(int).tolist())) == {(0, 1): 2, (1, 1): 7}

    def test_no_bag_grows_beyond_the_mean(self) -> None:
        matrix = np.array([[1, 0]] * 20 + [[0, 1]] * 8 + [[1, 1]] * 2, dtype=bool)
        rows = lp_ros(matrix, 5.0, np.random.default_rng(0))
        assert Counter(map(tuple, matrix[rows].astype(int).tolist())) == {
            (1, 0): 20,
            (0, 1): 10,
            (1, 1): 10,
        }

    def test_equal_sets_stay_as_they_are(self) -> None:
        assert len(lp_ros(one_hot(3, 3), 1.0, np.random.default_rng(0))) == 6
