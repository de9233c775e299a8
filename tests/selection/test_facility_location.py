"""Facility location: plain greedy as the oracle, its guarantee by brute force, ties."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from balancer.selection.facility_location import greedy_facilities, num_neighbors
from balancer.selection.neighbors import Neighbors, nearest_neighbors
from balancer.selection.pool import ArrayPool
from balancer.selection.recipes import by_facility_location, by_representatives_and_extremes
from balancer.types import DoubleArray, FloatArray, IdArray
from tests.selection.sharded_pool import ShardedPool

POWER = 8.0


def made(seed: int, count: int = 40, k: int = 8) -> tuple[FloatArray, IdArray, Neighbors]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, 3)).astype(np.float32)
    ids = np.array([f"t{number}" for number in rng.permutation(count)])
    return points, ids, nearest_neighbors(points, ids, points, ids, k)


def losses(graph: Neighbors, power: float) -> DoubleArray:
    """Return min(d(i, j), r_i)^p as a matrix."""
    distances: DoubleArray = np.sqrt(graph.squared.astype(np.float64))
    matrix = np.repeat(distances[:, -1:], len(distances), axis=1)
    np.put_along_axis(matrix, graph.rows, distances, axis=1)
    np.fill_diagonal(matrix, 0.0)
    powers: DoubleArray = (matrix / distances.max()) ** power
    return powers


def edges(graph: Neighbors, power: float) -> DoubleArray:
    """Return r_i^p."""
    distances = np.sqrt(graph.squared.astype(np.float64))
    found: DoubleArray = (distances[:, -1] / distances.max()) ** power
    return found


def loss(matrix: DoubleArray, graph: Neighbors, picks: list[int], power: float) -> float:
    nearest = matrix[:, picks].min(axis=1, initial=np.inf)
    return float(np.minimum(edges(graph, power), nearest).sum())


@pytest.mark.parametrize("power", [2.0, POWER])
@pytest.mark.parametrize("seed", range(4))
def test_lazy_is_plain_greedy(seed: int, power: float) -> None:
    _, ids, graph = made(seed)
    matrix, left, taken = losses(graph, power), edges(graph, power), list[int]()
    for row in greedy_facilities(graph, ids, 15, power=power).tolist():
        savings = np.maximum(left[:, None] - matrix, 0).sum(axis=0)
        savings[taken] = -1.0
        # Two rows that serve only each other save the same, up to the order of the additions.
        assert savings[row] == pytest.approx(savings.max(), rel=1e-12)
        taken.append(row)
        left = np.minimum(left, matrix[:, row])
    assert len(set(taken)) == 15


@pytest.mark.parametrize("seed", range(4))
def test_the_greedy_goes_on_from_given_rows(seed: int) -> None:
    _, ids, graph = made(seed)
    matrix, given = losses(graph, 2.0), [3, 17, 30]
    left, taken = np.minimum(edges(graph, 2.0), matrix[:, given].min(axis=1)), given.copy()
    for row in greedy_facilities(graph, ids, 12, power=2.0, given=np.array(given)).tolist():
        savings = np.maximum(left[:, None] - matrix, 0).sum(axis=0)
        savings[taken] = -1.0
        assert savings[row] == pytest.approx(savings.max(), rel=1e-12)
        taken.append(row)
        left = np.minimum(left, matrix[:, row])
    assert len(set(taken)) == 15
    rest = greedy_facilities(graph, ids, 37, power=2.0, given=np.array(given))
    assert sorted([*given, *rest.tolist()]) == list(range(40))
    assert len(greedy_facilities(graph, ids, 0, power=2.0, given=np.array(given))) == 0


@pytest.mark.parametrize("most_rows", [20, 100])
@pytest.mark.parametrize("share", [None, 0.0, 0.25, 1.0])
def test_included_rows_of_any_sharding(
    most_rows: int, share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the sample of a larger pool lacks them."""
    monkeypatch.setattr("balancer.selection.recipes.MOST_ROWS", most_rows)
    points, ids, _ = made(3)
    include = ids[[5, 0, 39, 12]]
    found = []
    for pool in (ArrayPool(points, ids), ShardedPool(points, ids, 4)):
        if share is None:
            picked = by_facility_location(pool, 10, power=2.0, seed=1, include=include)
        else:
            picked = by_representatives_and_extremes(
                pool, 10, power=2.0, global_share=share, seed=1, include=include
            )
        assert picked.tile_ids[:4].tolist() == include.tolist()
        assert picked.reason.tolist().count("include") == picked.num_included == 4
        assert len(set(picked.tile_ids.tolist())) == 10
        assert picked.weight.sum() == 40
        found.append((picked.tile_ids.tolist(), picked.weight.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(3))
def test_within_the_guarantee_of_greedy(seed: int) -> None:
    _, ids, graph = made(seed, count=12, k=11)
    matrix = losses(graph, POWER)

    def saved(picks: list[int]) -> float:
        return loss(matrix, graph, [], POWER) - loss(matrix, graph, picks, POWER)

    best = max(saved(list(chosen)) for chosen in combinations(range(12), 3))
    assert saved(greedy_facilities(graph, ids, 3, power=POWER).tolist()) >= (1 - 1 / np.e) * best


def test_more_power_evens_out_the_density() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.random((540, 2)), rng.random((60, 2)) + np.array([2, 0])])
    points, ids = points.astype(np.float32), np.array([f"{number:03d}" for number in range(600)])
    graph = nearest_neighbors(points, ids, points, ids, 60)
    shares = [
        float((greedy_facilities(graph, ids, 60, power=power) >= 540).mean())
        for power in (1.0, 2.0, 8.0)
    ]
    assert 0.1 < shares[0] < shares[1] < shares[2] <= 0.5


def test_all_rows_can_be_picked() -> None:
    _, ids, graph = made(0)
    rows = greedy_facilities(graph, ids, 40, power=POWER)
    assert sorted(rows.tolist()) == list(range(40))


def test_ties_go_to_the_lowest_id() -> None:
    points, ids = np.ones((5, 2), np.float32), np.array(list("ecbad"))
    graph = nearest_neighbors(points, ids, points, ids, 4)
    assert ids[greedy_facilities(graph, ids, 3, power=POWER)].tolist() == ["a", "b", "c"]


def test_arguments_out_of_range() -> None:
    _, ids, graph = made(0)
    with pytest.raises(ValueError, match="count must lie between 1 and the 40 rows; got 41"):
        greedy_facilities(graph, ids, 41, power=POWER)
    with pytest.raises(ValueError, match="count must lie between 0 and the 39 rows; got 40"):
        greedy_facilities(graph, ids, 40, power=POWER, given=np.array([1]))
    with pytest.raises(ValueError, match="power must be above 0; got 0"):
        greedy_facilities(graph, ids, 4, power=0)


def test_weights_are_the_rows_nearest_to_each_pick() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0]], np.float32)
    pool = ArrayPool(line, np.array(list("abcd")))
    picked = by_facility_location(pool, 2, power=POWER, seed=0)
    assert picked.tile_ids.tolist() == ["c", "d"]
    assert picked.weight.tolist() == [3.0, 1.0]


def test_a_larger_pool_is_represented_by_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.selection.recipes.MOST_ROWS", 20)
    points, ids, _ = made(1)
    picked = by_facility_location(ArrayPool(points, ids), 4, power=POWER, seed=0)
    again = by_facility_location(ShardedPool(points, ids, 5), 4, power=POWER, seed=0)
    assert len(set(picked.tile_ids.tolist())) == 4
    assert picked.tile_ids.tolist() == again.tile_ids.tolist()
    assert picked.weight.tolist() == again.weight.tolist()
    assert picked.weight.sum() == 40


def test_small_pools_have_the_whole_graph() -> None:
    assert num_neighbors(2) == 1
    assert num_neighbors(4000) == 3999
    assert num_neighbors(10**7) == 64


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_representatives_and_extremes(share: float) -> None:
    points, ids, _ = made(2)
    whole, shards = ArrayPool(points, ids), ShardedPool(points, ids, 4)
    picked, again = (
        by_representatives_and_extremes(pool, 12, power=2.0, global_share=share, seed=1)
        for pool in (whole, shards)
    )
    assert len(set(picked.tile_ids.tolist())) == 12
    assert picked.tile_ids.tolist() == again.tile_ids.tolist()
    assert picked.weight.sum() == 40
