"""Nearest neighbours: order, ties on ids, and the query left out."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.distances import distances_to, id_ranks
from balancer.selection.neighbors import nearest_neighbors


@pytest.mark.parametrize("k", [1, 7, 39])
def test_the_definition(k: int) -> None:
    rng = np.random.default_rng(k)
    points = rng.standard_normal((40, 5)).astype(np.float32)
    points[5:9] = points[0]
    ids = np.array([f"t{number}" for number in rng.permutation(40)])
    found = nearest_neighbors(points, ids, points, ids, k)
    for row in range(40):
        squared = distances_to(points, points[row])
        order = [r for r in np.lexsort((id_ranks(ids), squared)).tolist() if r != row]
        assert found.rows[row].tolist() == order[:k]
        assert found.squared[row].tolist() == squared[order[:k]].tolist()


def test_queries_that_are_not_in_the_reference() -> None:
    line = np.array([[0.0], [2.0]], np.float32)
    found = nearest_neighbors(line + 0.5, np.array(["x", "y"]), line, np.array(["a", "b"]), 1)
    assert found.rows.ravel().tolist() == [0, 1]


@pytest.mark.parametrize("k", [0, 2])
def test_too_few_rows(k: int) -> None:
    line, ids = np.array([[0.0], [2.0]], np.float32), np.array(["a", "b"])
    with pytest.raises(ValueError, match=f"between 1 and 1, the reference's other rows; got {k}"):
        nearest_neighbors(line, ids, line, ids, k)
