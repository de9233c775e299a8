"""Cells and visits: every near pair meets in a cell, once."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.selection.near_blocks import near_among, plan_buckets
from balancer.selection.near_cells import Cells, fit_cells, route
from balancer.selection.near_duplicates import bucket_of_routes
from balancer.selection.near_pairs import RankedRows, near_pairs
from tests.selection.near_data import near_rows


@pytest.mark.parametrize("threshold", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("num_cells", [2, 9, 60])
def test_every_near_pair_meets_in_one_cell(threshold: float, num_cells: int) -> None:
    points, ids = near_rows()
    limit = 2 - 2 * threshold
    cells = fit_cells(ids, points, num_cells, seed=0)
    routes = route(points, cells, limit**0.5)
    rows = RankedRows(points, np.arange(len(points)), np.arange(len(points)))
    expected = near_pairs(rows, rows, limit)
    goes = np.zeros((len(points), num_cells), np.bool_)
    goes[routes.visitors, routes.visited] = True
    one, other = routes.home[expected.first], routes.home[expected.second]
    across = one != other
    assert across.any() == (threshold < 0.999)
    meetings = goes[expected.first, other].astype(int) + goes[expected.second, one]
    assert (meetings[across] == 1).all()
    found = near_among([bucket_of_routes(points, rows.ranks, routes)], None, limit)
    assert found.first.tolist() == expected.first.tolist()
    assert found.second.tolist() == expected.second.tolist()


def test_fewer_visits_than_the_usual_condition() -> None:
    points, ids = near_rows()
    cells = fit_cells(ids, points, 20, seed=0)
    reach = 0.2
    away = np.sqrt(((points[:, None] - cells.centroids) ** 2).sum(axis=2))
    usual = (away <= away.min(axis=1, keepdims=True) + 2 * reach).sum() - len(points)
    assert 0 < len(route(points, cells, reach).visitors) < usual / 2


def test_visits_by_hand() -> None:
    cells = Cells(np.array([[0.0], [4.0]], np.float32), np.array([[0.0, 4.0], [4.0, 0.0]]))
    line = np.array([[1.4], [1.6], [2.1], [3.0]], np.float32)
    found = route(line, cells, 0.5)  # the border is at 2; only the first cell's rows visit
    assert found.home.tolist() == [0, 0, 1, 1]
    assert (found.visitors.tolist(), found.visited.tolist()) == ([1], [1])
    assert len(route(line, cells, None).visitors) == 0


def test_a_big_cell_is_split_and_all_its_parts_meet() -> None:
    plan = plan_buckets(np.array([5, 31, 4, 4]), 10)
    assert plan.parts.tolist() == [1, 4, 1, 1]
    assert plan.num_buckets == 6
    pairs = [unit for unit in plan.units() if unit[1] is not None]
    assert pairs == [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    buckets = plan.bucket_of(np.array([1, 1, 1, 1, 0, 3]), np.array([4, 5, 6, 7, 9, 2]))
    assert buckets.tolist() == [1, 2, 3, 4, 0, 5]
