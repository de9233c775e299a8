"""Dynamic pruning: how many, which of each cluster, and the same tiles in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.clustering.assignment import assign
from balancer.clustering.kmeans import fit
from balancer.config import ClusteringConfig
from balancer.config_pruning import PruningRule
from balancer.seeding import derive_seed
from balancer.selection.pool import ArrayPool
from balancer.selection.pruning import equal_shares, prune
from balancer.selection.quotas import water_filling
from balancer.types import FloatArray, IdArray, IntArray

RULES: tuple[PruningRule, ...] = ("near", "far", "balanced")
FOUR = ClusteringConfig(num_clusters=4)


def _rows(count: int = 200, seed: int = 0) -> tuple[FloatArray, IdArray]:
    """Return four separate heaps of very different sizes."""
    rng = np.random.default_rng(seed)
    heap = rng.choice(4, count, p=[0.6, 0.25, 0.1, 0.05])
    points = 10 * np.eye(4, 5)[heap] + rng.normal(size=(count, 5))
    return points.astype(np.float32), np.array([f"t{row:04d}" for row in range(count)])


def _clusters(points: FloatArray, ids: IdArray, seed: int) -> tuple[IntArray, FloatArray]:
    """Return the labels and squared distances of the clustering that `prune` makes."""
    found = fit(ArrayPool(points, ids), 4, config=FOUR, seed=derive_seed(seed, "cluster"))
    return assign(points, found.centroids)


def test_near_and_far_by_hand() -> None:
    # One cluster with its centroid at 3: distances 3, 2, 1, 2, 4 (two ties, broken by the id).
    points = np.array([[0.0], [1.0], [2.0], [5.0], [7.0]], dtype=np.float32)
    ids = np.array(list("abcde"))
    one = ClusteringConfig(num_clusters=1)
    for rule, count, rows in (("near", 2, [1, 2]), ("far", 2, [0, 4]), ("far", 3, [0, 1, 4])):
        found = prune(points, ids, count, rule=rule, clustering=one, seed=0)  # type: ignore[arg-type]
        assert found.tolist() == rows


@pytest.mark.parametrize("rule", ["near", "far"])
@pytest.mark.parametrize("num_kept", [20, 117])
def test_every_cluster_keeps_its_share_and_the_right_side(rule: PruningRule, num_kept: int) -> None:
    points, ids = _rows()
    kept = prune(points, ids, num_kept, rule=rule, clustering=FOUR, seed=3)
    labels, squared = _clusters(points, ids, 3)
    inside = np.isin(np.arange(len(ids)), kept)
    for cluster in range(4):
        mine = labels == cluster
        assert abs(int(inside[mine].sum()) - num_kept * mine.sum() / len(ids)) < 1
        in_, out = squared[mine & inside], squared[mine & ~inside]
        if rule == "near":
            assert in_.max(initial=0) <= out.min(initial=np.inf)
        else:
            assert in_.min(initial=np.inf) >= out.max(initial=0)


def test_balanced_follows_water_filling_and_changes_with_the_seed() -> None:
    points, ids = _rows()
    picks = [prune(points, ids, 60, rule="balanced", clustering=FOUR, seed=s) for s in range(3)]
    for seed, kept in enumerate(picks):
        labels, _ = _clusters(points, ids, seed)
        wanted = water_filling(np.bincount(labels), 60).counts
        counts = np.bincount(labels[kept], minlength=4)
        assert np.abs(counts - wanted).max() <= 1  # the remainder's order has another seed
    assert len({tuple(kept) for kept in picks}) == 3


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_rows_does_not_matter(rule: PruningRule) -> None:
    points, ids = _rows()
    points[20:25] = points[5]  # equal distances
    first = prune(points, ids, 77, rule=rule, clustering=ClusteringConfig(), seed=1)
    assert first.tolist() == sorted(set(first.tolist()))
    assert len(first) == 77
    order = np.random.default_rng(0).permutation(len(ids))
    again = prune(points[order], ids[order], 77, rule=rule, clustering=ClusteringConfig(), seed=1)
    assert sorted(ids[order][again]) == sorted(ids[first])


@pytest.mark.parametrize("rule", RULES)
def test_everything_may_be_kept(rule: PruningRule) -> None:
    points, ids = _rows(30)
    kept = prune(points, ids, 30, rule=rule, clustering=FOUR, seed=0)
    assert kept.tolist() == list(range(30))


@pytest.mark.parametrize("num_kept", [0, 31])
def test_a_number_that_cannot_be_kept(num_kept: int) -> None:
    points, ids = _rows(30)
    with pytest.raises(ValueError, match=f"between 1 and the 30 rows there are; got {num_kept}"):
        prune(points, ids, num_kept, rule="near", clustering=FOUR, seed=0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.data())
@settings(max_examples=100)
def test_equal_shares_are_proportional(listed: list[int], data: st.DataObject) -> None:
    sizes = np.array([*listed, 1])
    total = data.draw(st.integers(0, int(sizes.sum())))
    counts = equal_shares(sizes, total)
    assert counts.sum() == total
    assert (counts <= sizes).all()
    assert np.abs(counts - total * sizes / sizes.sum()).max() < 1
