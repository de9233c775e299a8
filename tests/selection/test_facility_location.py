"""Facility location: plain greedy as the oracle, its guarantee by brute force, ties."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from balancer.distances import id_ranks
from balancer.selection.facility_location import (
    greedy_facilities,
    mean_squared_distance,
    num_neighbors,
)
from balancer.selection.neighbors import Neighbors, nearest_neighbors
from balancer.selection.pool import ArrayPool
from balancer.selection.recipes import by_facility_location
from balancer.types import DoubleArray, FloatArray, IdArray


def made(seed: int, count: int = 40, k: int = 8) -> tuple[FloatArray, IdArray, Neighbors, float]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, 3)).astype(np.float32)
    ids = np.array([f"t{number}" for number in rng.permutation(count)])
    graph = nearest_neighbors(points, ids, points, ids, k)
    return points, ids, graph, mean_squared_distance(points)


def benefits(graph: Neighbors, scale: float) -> DoubleArray:
    """Return b(i, j) as a matrix."""
    num_rows = len(graph.rows)
    matrix = np.eye(num_rows)
    for row in range(num_rows):
        for other, squared in zip(graph.rows[row], graph.squared[row], strict=True):
            matrix[row, other] = max(0.0, 1 - float(squared) / scale)
    return matrix


def value(matrix: DoubleArray, picks: list[int]) -> float:
    return float(matrix[:, picks].max(axis=1).sum())


@pytest.mark.parametrize("seed", range(6))
def test_lazy_is_plain_greedy(seed: int) -> None:
    _, ids, graph, scale = made(seed)
    matrix, picks = benefits(graph, scale), list[int]()
    ranks = id_ranks(ids)
    best = np.zeros(len(ids))
    for _ in range(15):
        gains = np.maximum(matrix - best[:, None], 0).sum(axis=0)
        gains[picks] = -1.0
        picks.append(int(np.lexsort((ranks, -gains.round(12)))[0]))
        best = np.maximum(best, matrix[:, picks[-1]])
    assert greedy_facilities(graph, ids, 15, scale).tolist() == picks


@pytest.mark.parametrize("seed", range(3))
def test_within_the_guarantee_of_greedy(seed: int) -> None:
    _, ids, graph, scale = made(seed, count=12, k=11)
    matrix = benefits(graph, scale)
    best = max(value(matrix, list(chosen)) for chosen in combinations(range(12), 3))
    found = value(matrix, greedy_facilities(graph, ids, 3, scale).tolist())
    assert found >= (1 - 1 / np.e) * best


def test_all_rows_can_be_picked() -> None:
    _, ids, graph, scale = made(0)
    assert sorted(greedy_facilities(graph, ids, 40, scale).tolist()) == list(range(40))


def test_ties_go_to_the_lowest_id() -> None:
    points, ids = np.ones((5, 2), np.float32), np.array(list("ecbad"))
    graph = nearest_neighbors(points, ids, points, ids, 4)
    rows = greedy_facilities(graph, ids, 3, mean_squared_distance(points))
    assert ids[rows].tolist() == ["a", "b", "c"]


def test_a_count_out_of_range() -> None:
    _, ids, graph, scale = made(0)
    with pytest.raises(ValueError, match="count must lie between 1 and the 40 rows; got 41"):
        greedy_facilities(graph, ids, 41, scale)


def test_weights_are_the_rows_nearest_to_each_pick() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    picked = by_facility_location(ArrayPool(line, np.array(list("abcd"))), 2, seed=0)
    assert picked.tile_ids.tolist() == ["b", "d"]
    assert picked.weight.tolist() == [3.0, 1.0]


def test_a_larger_pool_is_represented_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.selection.recipes.MOST_ROWS", 20)
    points, ids, _, _ = made(1)
    pool = ArrayPool(points, ids)
    picked = by_facility_location(pool, 4, seed=0)
    again = by_facility_location(ArrayPool(points[::-1].copy(), ids[::-1].copy()), 4, seed=0)
    assert picked.tile_ids.tolist() == again.tile_ids.tolist()
    assert picked.weight.sum() == 40  # of all rows, sampled or not


def test_neighbors_follow_from_the_budget() -> None:
    assert num_neighbors(10**6, 10**3) == 256
    assert num_neighbors(100, 90) == 16
