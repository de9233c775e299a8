"""Near-duplicates of an array: the greedy net's guarantees, SemDeDup's lack of them, borders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from balancer.clustering.assignment import assign
from balancer.config_deduplicate import DeduplicateConfig, NearOrder
from balancer.distances import distances_to, nearest_rows
from balancer.seeding import hash_ids
from balancer.selection.greedy_net import Net, greedy_net
from balancer.selection.near_blocks import make_bucket
from balancer.selection.near_cells import fit_cells
from balancer.selection.near_duplicates import (
    ArrayUnits,
    NearDuplicates,
    deduplicate,
    num_cells_of,
)
from balancer.selection.near_order import order_rows, order_seed
from balancer.selection.near_pairs import NearPairs, TooManyPairsError
from balancer.selection.near_report import describe, facts_of, nearest_in
from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray
from tests.oracles.sequential_greedy_net import sequential_greedy_net
from tests.selection.near_data import near_rows

QUARTER = np.linspace(0, np.pi / 2, 30)
CIRCLE = np.stack([np.cos(QUARTER), np.sin(QUARTER)], axis=1).astype(np.float32)
IN_TURN = -np.arange(30.0)
"""Priorities that keep the order of the rows."""


def find(
    points: FloatArray, threshold: float, priority: DoubleArray, **more: object
) -> NearDuplicates:
    ids = np.array([f"tile/{number:x}" for number in range(len(points))])
    config = DeduplicateConfig.model_validate({"threshold": threshold, **more})
    return deduplicate(points, ids, config, priority=priority)


def worst_similarity(points: FloatArray, kept: BoolArray) -> float:
    return 1 - float(nearest_rows(points, points[kept])[1].max()) / 2


def test_semdedup_keeps_one_of_a_chain_where_the_net_keeps_ten() -> None:
    net = find(CIRCLE, 0.99, priority=IN_TURN, num_cells=1)
    assert np.flatnonzero(net.kept).tolist() == list(range(0, 30, 3))
    assert worst_similarity(CIRCLE, net.kept) == pytest.approx(0.994, abs=1e-3)
    published = find(CIRCLE, 0.99, priority=IN_TURN, num_cells=1, rule="semdedup")
    assert np.flatnonzero(published.kept).tolist() == [0]
    assert worst_similarity(CIRCLE, published.kept) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("more", [{}, {"num_cells": 12}, {"num_cells": 90}, {"floor": 0.6}])
def test_the_net_is_that_of_one_tile_after_another(threshold: float, more: dict[str, Any]) -> None:
    points, ids = near_rows()
    limit = 2 - 2 * threshold
    order = np.lexsort((ids, hash_ids(ids, order_seed(4))))
    kept, dropped = sequential_greedy_net(points, order, limit)
    config = DeduplicateConfig(threshold=threshold, **more)
    found = deduplicate(points, ids, config, seed=4)
    assert sorted(kept) == np.flatnonzero(found.kept).tolist()
    assert [dropped.get(row, -1) for row in range(len(ids))] == found.kept_by.tolist()
    assert found.num_dropped == len(dropped) >= 10


def test_small_archives_are_one_block_unless_the_cells_decide() -> None:
    exact = DeduplicateConfig(threshold=0.9)
    assert [num_cells_of(exact, count) for count in (10, 4999, 5000, 100_000)] == [1, 1, 2, 40]
    assert num_cells_of(exact, 4_000_000) == 1000
    assert num_cells_of(DeduplicateConfig(threshold=0.9, num_cells=7), 10) == 7
    for fields in ({"borders": "ignore"}, {"rule": "semdedup"}):
        config = DeduplicateConfig.model_validate({"threshold": 0.9, **fields})
        assert [num_cells_of(config, count) for count in (10, 10_000)] == [2, 50]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.floats(0.5, 1),
    first_batch=st.integers(1, 50),
    parts=st.integers(1, 4),
)
def test_packing_and_covering(seed: int, threshold: float, first_batch: int, parts: int) -> None:
    points, _ = near_rows(100, 4, seed=seed)
    limit = 2 - 2 * threshold
    ranks = np.random.default_rng(seed).permutation(len(points))
    rows = np.arange(len(points))
    buckets = [
        make_bucket(points, mine, ranks[mine], np.zeros_like(mine), np.ones(len(mine), np.bool_))
        for mine in (rows[rows % parts == part] for part in range(parts))
    ]
    units = [[bucket] for bucket in buckets]
    units += [[buckets[i], buckets[j]] for i in range(parts) for j in range(i + 1, parts)]
    net = greedy_net(ArrayUnits(len(points), units), limit, first_batch=first_batch)
    kept = net.kept[ranks]
    squared = nearest_rows(points, points[kept])[1]
    assert (squared <= limit).all()
    for row in np.flatnonzero(kept):
        others = kept.copy()
        others[row] = False
        if others.any():
            assert nearest_rows(points[row : row + 1], points[others])[1][0] > limit
    order = np.argsort(ranks)
    assert sorted(sequential_greedy_net(points, order, limit)[0]) == np.flatnonzero(kept).tolist()


def test_many_equal_tiles_list_few_pairs() -> None:
    listed: list[int] = []

    class Counting(ArrayUnits):
        def near_among(
            self, members: IntArray | None, limit: float, most: int | None
        ) -> list[NearPairs]:
            pairs = ArrayUnits.near_among(self, members, limit, most)
            listed.append(sum(map(len, pairs)))
            return pairs

    rows = np.arange(20_000)
    same = np.ones((len(rows), 2), np.float32)
    bucket = make_bucket(same, rows, rows, np.zeros_like(rows), np.ones(len(rows), np.bool_))
    net = greedy_net(Counting(len(rows), [[bucket]]), 0.0, first_batch=64)
    assert np.flatnonzero(net.kept).tolist() == [0]
    assert sum(listed) == 64 * 63 // 2  # and not 20,000 * 19,999 / 2


def test_greater_priority_is_kept_and_nan_comes_last() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    quality = np.array([0.1, 0.9, np.nan, 0.0, 5.0, 5.0])
    found = find(points, 0.99, priority=quality)
    assert found.kept[:4].tolist() == [False, True, False, True]
    assert found.kept[4:].sum() == 1


def test_ties_of_the_order_break_on_ids() -> None:
    ids = np.array(["c", "a", "d", "b"])
    keys = np.array([1.0, 1.0, 0.0, 1.0])
    order = order_rows(keys, np.array([7, 7, 7, 7], np.uint64), lambda rows: ids[rows])
    assert ids[order].tolist() == ["d", "a", "b", "c"]


def test_the_order_does_not_depend_on_where_the_rows_are() -> None:
    points, ids = near_rows()
    config = DeduplicateConfig(threshold=0.95, num_cells=12)
    shuffled = np.random.default_rng(9).permutation(len(ids))
    expected = set(ids[deduplicate(points, ids, config, seed=2).kept].tolist())
    found = deduplicate(points[shuffled].copy(), ids[shuffled], config, seed=2)
    assert set(ids[shuffled][found.kept].tolist()) == expected
    other = deduplicate(points, ids, config, seed=3)
    assert set(ids[other.kept].tolist()) != expected


def test_ignored_borders_lose_pairs_and_say_how_many() -> None:
    points, ids = near_rows()
    config = DeduplicateConfig(threshold=0.9, borders="ignore", num_cells=40)
    found = deduplicate(points, ids, config)
    exact = deduplicate(points, ids, DeduplicateConfig(threshold=0.9, floor=0.9, num_cells=40))
    misses = found.effort.misses
    assert misses is not None
    assert exact.pairs is not None
    # All 600 rows are in the sample, so each pair counts for both of its rows.
    assert misses.num_pairs == 2 * len(exact.pairs)
    assert 0.01 < misses.rate < 0.5
    assert found.num_dropped < exact.num_dropped
    assert (found.effort.replication, exact.effort.misses) == (1.0, None)
    assert exact.effort.replication > 1.1
    lines = describe(facts_of(config, Net(found.kept, found.kept_by, found.squared), found.effort))
    assert f"({misses.num_missed} of the {misses.num_pairs} of a sample" in lines[1]


@pytest.mark.parametrize("order", ["hard", "easy"])
def test_semdedup_orders_a_cluster_by_its_centroid(order: NearOrder) -> None:
    points, ids = near_rows()
    config = DeduplicateConfig(threshold=0.9, rule="semdedup", order=order, num_cells=10)
    found = deduplicate(points, ids, config)
    cells = fit_cells(ids, points, 10, seed=order_seed(0))
    home, squared = assign(points, cells.centroids)
    steps = np.diff(squared[found.order]) * (-1 if order == "hard" else 1)
    assert (steps >= 0).all()
    # A tile is dropped exactly if an earlier one of its cluster is near, kept or not.
    for place, row in enumerate(found.order.tolist()):
        earlier = found.order[:place][home[found.order[:place]] == home[row]]
        near = distances_to(points[earlier], points[row]) <= 2 - 2 * 0.9
        assert found.kept[row] == (not near.any())


def test_semdedup_with_and_without_a_floor() -> None:
    points, ids = near_rows()
    kept = [
        deduplicate(
            points, ids, DeduplicateConfig(threshold=0.9, rule="semdedup", floor=floor)
        ).kept
        for floor in (None, 0.8)
    ]
    assert kept[0].tolist() == kept[1].tolist()
    assert 0 < kept[0].sum() < len(ids)


def test_nearest_tiles_are_those_of_all_pairs() -> None:
    points, ids = near_rows()
    found = deduplicate(points, ids, DeduplicateConfig(threshold=0.95, floor=0.8))
    ranks = np.argsort(found.order)
    net = Net(found.kept[found.order], found.kept_by[found.order], found.squared, found.pairs)
    nearest, squared = nearest_in(net)
    for row in range(0, len(ids), 37):
        others = np.delete(np.arange(len(ids)), row)
        away = nearest_rows(points[row : row + 1], points[others])[1][0]
        if away <= 0.4:
            assert squared[ranks[row]] == away
        else:
            assert nearest[ranks[row]] == -1


def test_too_many_pairs_to_list() -> None:
    points, ids = near_rows()
    config = DeduplicateConfig(threshold=0.9, floor=0.0, max_pairs=1000)
    with pytest.raises(TooManyPairsError, match="that may be listed"):
        deduplicate(points, ids, config)


def test_a_distance_is_a_threshold_too() -> None:
    points, ids = near_rows()
    one = deduplicate(points, ids, DeduplicateConfig(threshold=0.92))
    other = deduplicate(points, ids, DeduplicateConfig(distance=0.16**0.5))
    assert one.kept.tolist() == other.kept.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give either threshold"),
        ({"threshold": 0.9, "distance": 0.1}, "give either threshold"),
        ({"threshold": 0.9, "floor": 0.95}, "floor must be at most threshold"),
        ({"distance": 0.5, "floor": 0.4}, "with distance, at least distance"),
        ({"threshold": 0.9, "order": "hard"}, "order: hard is for rule: semdedup"),
        ({"threshold": 1.1}, "less than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DeduplicateConfig(**fields)
