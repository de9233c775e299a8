"""One check suite that every strategy passes, on plain arrays."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from balancer.config import ClusteringConfig, SelectionConfig, Strategy, Within
from balancer.selection import STRATEGIES, select
from balancer.selection.arrays import select_weighted
from balancer.selection.constraints import Constraints
from balancer.selection.farthest_point import row_ids
from balancer.types import FloatArray, IntArray, Selection

RULES: list[tuple[Strategy, Within]] = [
    (strategy, within)
    for strategy in STRATEGIES
    for within in (get_args(Within) if strategy == "per-cluster" else ("farthest-point",))
]
"""Every strategy there is, so that a new one is covered by its name alone."""


def long_tailed(seed: int = 0, dim: int = 6) -> tuple[FloatArray, IntArray]:
    """Four groups of 400, 80, 16 and 4 points; returns points and group numbers."""
    rng = np.random.default_rng(seed)
    sizes = [400, 80, 16, 4]
    centers = 3 * rng.standard_normal((4, dim))
    group = np.repeat(np.arange(4), sizes)
    points = centers[group] + 0.3 * rng.standard_normal((len(group), dim))
    return points.astype(np.float32), group


def run(points: FloatArray, strategy: Strategy, within: Within, budget: int = 40) -> Selection:
    config = SelectionConfig(budget=budget, strategy=strategy, within=within)
    return select(points, config, seed=3, clustering=ClusteringConfig(num_clusters=8))


@pytest.mark.parametrize(("strategy", "within"), RULES)
class TestEveryStrategy:
    def test_picks_are_unique_and_known(self, strategy: Strategy, within: Within) -> None:
        points, _ = long_tailed()
        picked = run(points, strategy, within)
        assert len(picked) == len(set(picked.tile_ids.tolist())) == 40
        assert np.isin(picked.tile_ids.astype(int), np.arange(len(points))).all()
        assert (picked.weight >= 1).all()

    def test_same_seed_same_picks(self, strategy: Strategy, within: Within) -> None:
        points, _ = long_tailed()
        assert (
            run(points, strategy, within).tile_ids == run(points, strategy, within).tile_ids
        ).all()

    def test_row_order_does_not_matter(self, strategy: Strategy, within: Within) -> None:
        points, _ = long_tailed()
        ids = row_ids(len(points))
        order = np.random.default_rng(1).permutation(len(points))
        config = SelectionConfig(budget=40, strategy=strategy, within=within)
        kmeans = ClusteringConfig(num_clusters=8)
        straight = select(points, config, ids=ids, clustering=kmeans)
        shuffled = select(points[order], config, ids=ids[order], clustering=kmeans)
        assert straight.tile_ids.tolist() == shuffled.tile_ids.tolist()
        np.testing.assert_array_equal(straight.distance, shuffled.distance)

    def test_everything_can_be_picked(self, strategy: Strategy, within: Within) -> None:
        points = long_tailed()[0][:30]
        picked = run(points, strategy, within, budget=30)
        assert sorted(picked.tile_ids.astype(int).tolist()) == list(range(30))

    def test_one_point(self, strategy: Strategy, within: Within) -> None:
        picked = run(np.ones((1, 3), dtype=np.float32), strategy, within, budget=1)
        assert picked.tile_ids.tolist() == ["0"]

    def test_identical_points(self, strategy: Strategy, within: Within) -> None:
        picked = run(np.ones((12, 3), dtype=np.float32), strategy, within, budget=5)
        assert len(set(picked.tile_ids.tolist())) == 5

    def test_too_large_a_budget(self, strategy: Strategy, within: Within) -> None:
        with pytest.raises(ValueError, match="between 1 and the 3 rows there are; got 4"):
            run(np.eye(3, dtype=np.float32), strategy, within, budget=4)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, strategy: Strategy, within: Within, value: float) -> None:
        points = np.ones((4, 2), dtype=np.float32)
        points[2, 1] = value
        config = SelectionConfig(budget=1, strategy=strategy, within=within)
        names = np.array(["a", "b", "the bad one", "d"])
        with pytest.raises(ValueError, match=r"be finite; 1 of 4 rows .*\(tile ids the bad one\)"):
            select(points, config, ids=names)

    def test_duplicates_and_ties(self, strategy: Strategy, within: Within) -> None:
        # A grid, every row three times: most distances tie, and only ids can decide.
        grid = np.stack(np.meshgrid(*[np.arange(1, 5)] * 2), axis=-1).reshape(-1, 2)
        points = np.repeat(grid, 3, axis=0).astype(np.float32)
        ids = row_ids(len(points))
        config = SelectionConfig(budget=20, strategy=strategy, within=within)
        kmeans = ClusteringConfig(num_clusters=5)
        found = [
            select(points[o], config, ids=ids[o], clustering=kmeans, normalize=False)
            for o in (np.arange(48), np.arange(48)[::-1], np.random.default_rng(0).permutation(48))
        ]
        assert len(set(found[0].tile_ids.tolist())) == 20
        for other in found[1:]:
            assert other.tile_ids.tolist() == found[0].tile_ids.tolist()
            assert other.weight.tobytes() == found[0].weight.tobytes()


def test_diverse_strategies_flatten_the_groups() -> None:
    points, group = long_tailed()

    def spread(strategy: Strategy, within: Within = "farthest-point") -> float:
        picked = run(points, strategy, within)
        return float(np.std(np.bincount(group[picked.tile_ids.astype(int)], minlength=4)))

    random = spread("random")
    assert spread("per-cluster") < random
    assert spread("hybrid") < random
    # Farthest-point follows a group's extent, not its size: it reaches every group early.
    reached = run(points, "farthest-point", "farthest-point", budget=8).tile_ids.astype(int)
    assert set(group[reached].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("strategy", ["random", "per-cluster", "hierarchical", "hybrid"])
@pytest.mark.parametrize("budget", [40, 500])
def test_weights_add_up_to_the_archive(strategy: Strategy, budget: int) -> None:
    points, _ = long_tailed()
    picked = run(points, strategy, "farthest-point", budget)
    assert picked.weight.sum() == pytest.approx(len(points))


def test_hybrid_without_a_per_cluster_part_is_farthest_point() -> None:
    points, _ = long_tailed()
    whole = SelectionConfig(budget=9, strategy="hybrid", global_share=1.0)
    alone = SelectionConfig(budget=9, strategy="farthest-point")
    assert select(points, whole).tile_ids.tolist() == select(points, alone).tile_ids.tolist()


def test_prefixes_are_spread_over_clusters() -> None:
    points, _ = long_tailed()
    picked = run(points, "per-cluster", "farthest-point")
    assert len(set(picked.cluster[:8].tolist())) == 8


def test_hybrid_gives_a_quarter_globally() -> None:
    points, _ = long_tailed()
    reasons = run(points, "hybrid", "farthest-point").reason
    assert (reasons == "hybrid:farthest-point").sum() == 10


def test_default_is_the_recipe_that_closed_most_of_the_gap() -> None:
    points, _ = long_tailed()
    assert set(select(points, 10).reason.tolist()) == {"hybrid-medoid"}


def test_tile_weights_of_the_default_add_up_to_the_budget() -> None:
    points, _ = long_tailed()
    picked, _, weights = select_weighted(points, SelectionConfig(budget=20))
    assert weights is not None
    assert weights.weight.sum() == pytest.approx(20)
    assert (weights.weight > 0).all()
    one = Constraints(include=picked.tile_ids[5:6])
    _, _, none = select_weighted(points, SelectionConfig(budget=20), constraints=one)
    assert none is None  # a medoid's weight is its cell, not a rate


def test_duplicate_ids_and_shapes_are_refused() -> None:
    points = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match=r"unique; 1 repeat, the first is 'a'"):
        select(points, 1, ids=np.array(["a", "a"]))
    with pytest.raises(ValueError, match=r"one id per row \(2\); got \(3,\)"):
        select(points, 1, ids=np.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"matrix .* got shape \(3,\)"):
        select([1.0, 2.0, 3.0], 1)
    with pytest.raises(ValueError, match=r"must not be all zero .*\(tile ids 1\)"):
        select(np.array([[1.0, 0.0], [0.0, 0.0]]), 1)
