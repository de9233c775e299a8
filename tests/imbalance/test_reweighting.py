from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.imbalance.reweighting import (
    class_frequency_weights,
    effective_number_weights,
    effective_samples,
    instance_weights,
)

LOW = np.array([False, False, True])


def test_weights_of_tiles_by_hand() -> None:
    matrix = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]], dtype=bool)
    assert instance_weights(matrix, LOW, 10).tolist() == [1, 10, 1, 10]
    assert instance_weights(matrix, LOW, 1).tolist() == [1, 1, 1, 1]


@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1), st.integers(0, 1))
def test_other_labels_do_not_change_a_weight(
    rows: list[tuple[bool, bool, bool]], flipped: int
) -> None:
    matrix = np.array(rows)
    other = matrix.copy()
    other[:, flipped] ^= True
    assert (instance_weights(matrix, LOW, 3) == instance_weights(other, LOW, 3)).all()


def test_effective_number_between_its_limits() -> None:
    counts = np.array([37513, 4547, 100])
    assert effective_number_weights(counts, 0.0).tolist() == [1, 1, 1]
    near_one = effective_number_weights(counts, 1 - 1e-12)
    assert near_one == pytest.approx(class_frequency_weights(counts), rel=1e-5)
    assert effective_samples(np.array([100]), 0.99)[0] == pytest.approx(63.3968, abs=5e-5)
    for beta in (0.9, 0.99, 0.999, 0.9999):
        weights = effective_number_weights(counts, beta)
        assert weights.sum() == pytest.approx(3, abs=1e-5)
        assert (np.diff(weights) >= 0).all()


def test_refusals() -> None:
    matrix = np.ones((1, 3), np.bool_)
    with pytest.raises(ValueError, match="above 0; got 0"):
        instance_weights(matrix, LOW, 0)
    with pytest.raises(ValueError, match=r"per class \(3\); got shape \(2,\)"):
        instance_weights(matrix, LOW[:2], 1)
    with pytest.raises(ValueError, match=r"must have a tile .* got \[1, 0\]"):
        class_frequency_weights(np.array([1, 0]))
    with pytest.raises(ValueError, match="from 0 to below 1; got 1"):
        effective_number_weights(np.array([1]), 1)
