"""The adjusted Rand index against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from balancer.clustering.agreement import adjusted_rand_index


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=2, max_size=40))
def test_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, dtype=np.int64).T
    expected = adjusted_rand_score(one, other)
    assert adjusted_rand_index(one, other) == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    # Table [[2, 0], [1, 1]]: 1 pair together in both, 1 + 1 by rows, 3 + 0 by columns, of 6; as
    # many as expected by chance, 2 * 3 / 6.
    assert adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="same N >= 2 rows"):
        adjusted_rand_index(np.zeros(3, np.int64), np.zeros(2, np.int64))
