"""Picks inside many clusters at once are those of each one alone, however rows are split."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest

from balancer.clustering.lloyd import make_scale
from balancer.config import Within
from balancer.selection import stratum_picks
from balancer.selection.batched_picks import pick_batch
from balancer.selection.farthest_point import row_ids
from balancer.selection.medoids import (
    cell_means,
    local_cells,
    local_medoids,
    medoids,
    merge_cells,
    merge_medoids,
)
from balancer.selection.per_cluster import interleave
from balancer.selection.plain_scan import plain_scan
from balancer.selection.strata import cluster_strata
from balancer.selection.stratum_picks import PickPlan, candidates, merge_candidates, pick_strata
from balancer.types import FloatArray, IdArray, IntArray, ShardRows
from tests.oracles.one_cluster import cluster_seed, pick_in_cluster

RULES: tuple[Within, ...] = ("random", "nearest", "farthest-point", "medoid")


def made(seed: int = 0) -> tuple[FloatArray, IdArray, IntArray, FloatArray]:
    """Return rows with repetitions, shuffled ids, clusters of very unequal sizes, centroids."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(7), [300, 90, 40, 12, 3, 1, 0])
    centroids = rng.standard_normal((7, 5)).astype(np.float32)
    points = centroids[labels] + 0.5 * rng.standard_normal((len(labels), 5)).astype(np.float32)
    points[50:90] = points[10:50]
    order = rng.permutation(len(labels))
    ids = row_ids(len(labels))[rng.permutation(len(labels))]
    return points[order].astype(np.float32), ids, labels[order], centroids


def plan_of(labels: IntArray, counts: IntArray, rule: Within, centroids: FloatArray) -> PickPlan:
    strata = cluster_strata(np.bincount(labels, minlength=7))
    return PickPlan(strata, counts, rule, 5, centroids)


COUNTS = np.array([40, 40, 40, 12, 2, 1, 0])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("big", [(1, 1), (100, 40), (100, 41), (1 << 16, 1)])
def test_picks_are_those_of_each_cluster_by_itself(
    rule: Within, big: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stratum_picks, "BIG_ROWS", big[0])
    monkeypatch.setattr(stratum_picks, "BIG_PICKS", big[1])
    points, ids, labels, centroids = made()
    found = pick_strata(points, ids, labels, plan_of(labels, COUNTS, rule, centroids))
    for cluster in range(6):
        rows = np.flatnonzero(labels == cluster)
        alone = pick_in_cluster(
            points[rows],
            ids[rows],
            int(COUNTS[cluster]),
            rule=rule,
            centroid=centroids[cluster],
            seed=cluster_seed(5, cluster),
        )
        mine = found.stratum == cluster
        assert found.ids[mine].tolist() == ids[rows][alone.rows].tolist()
        np.testing.assert_array_equal(found.distance[mine], alone.distances)


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_large_strata_are_those_of_many_picks_or_a_thread_s_share(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    sizes = np.array([1 << 17, 1 << 16, 1 << 16, (1 << 16) - 1])
    large = stratum_picks._large(sizes, np.array([300, 100, 511, 10_000]))
    assert large.tolist() == [threads == 64, False, threads == 64, False]
    many = stratum_picks._large(sizes, np.array([1, 1, 512, 10_000]))
    assert many.tolist() == [False, False, True, False]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_included_rows_are_started_from(rule: Within, weighted: bool) -> None:
    points, ids, labels, centroids = made()
    rng = np.random.default_rng(1)
    included = ids[np.concatenate([np.flatnonzero(labels == c)[:2] for c in (0, 2, 5)])]
    quality = rng.uniform(0.1, 1, len(ids)).astype(np.float32) if weighted else None
    counts = np.array([30, 20, 5, 12, 2, 0, 0])
    plan = replace(plan_of(labels, counts, rule, centroids), included=included)
    found = pick_strata(points, ids, labels, plan, quality=quality)
    assert not np.isin(found.ids, included).any()
    for cluster in range(5):
        rows = np.flatnonzero(labels == cluster)
        alone = pick_in_cluster(
            points[rows],
            ids[rows],
            int(counts[cluster]),
            rule=rule,
            centroid=centroids[cluster],
            seed=cluster_seed(5, cluster),
            included=np.flatnonzero(np.isin(ids[rows], included)),
            quality=None if quality is None else quality[rows],
        )
        mine = found.stratum == cluster
        assert found.ids[mine].tolist() == ids[rows][alone.rows].tolist()
        np.testing.assert_array_equal(found.distance[mine], alone.distances)


@pytest.mark.parametrize("rule", ["random", "nearest"])
def test_candidates_of_any_split_give_the_same_picks(rule: Within) -> None:
    points, ids, labels, centroids = made()
    plan = plan_of(labels, COUNTS, rule, centroids)
    whole = pick_strata(points, ids, labels, plan)
    for parts in (1, 2, 5, 40):
        split = np.array_split(np.random.default_rng(parts).permutation(len(ids)), parts)
        found = merge_candidates(
            [candidates(points[rows], ids[rows], labels[rows], plan) for rows in split], plan
        )
        assert found.ids.tolist() == whole.ids.tolist()
        assert found.distance.tobytes() == whole.distance.tobytes()


class TestKernel:
    @pytest.mark.parametrize("dim", [1, 3, 8, 17, 64])
    @pytest.mark.parametrize("kind", ["normal", "grid", "far", "twins"])
    def test_picks_of_the_plain_scan(self, dim: int, kind: str) -> None:
        rng = np.random.default_rng(dim)
        points = rng.standard_normal((150, dim)).astype(np.float32)
        if kind == "grid":
            points = np.round(points)
        elif kind == "far":
            points += np.float32(1000)
        elif kind == "twins":
            points[75:] = points[:75]
        labels = rng.choice(4, 150, p=[0.7, 0.2, 0.08, 0.02])
        ranks = rng.permutation(150)
        rows = np.argsort(labels, kind="stable")
        sizes = np.bincount(labels, minlength=4)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        firsts, counts = sizes // 2, np.maximum(1, sizes * 2 // 3)
        picked, squared = pick_batch(points, ranks, rows, starts, firsts, counts)
        ends = np.cumsum(counts)
        for c in range(4):
            own = rows[starts[c] : starts[c + 1]]
            scan = plain_scan(
                np.ascontiguousarray(points[own]),
                int(counts[c]),
                ranks[own],
                taken_first=[int(firsts[c])],
            )
            span = slice(ends[c] - counts[c], ends[c])
            assert picked[span].tolist() == own[scan.picked].tolist()
            assert squared[span].tobytes() == scan.squared.tobytes()

    def test_nothing_to_pick(self) -> None:
        nothing = np.empty(0, np.int64)
        picked, _ = pick_batch(
            np.empty((0, 2), np.float32), nothing, nothing, np.zeros(1, np.int64), nothing, nothing
        )
        assert len(picked) == 0


class TestMedoids:
    def test_by_hand(self) -> None:
        line = np.array([[0.0], [1.0], [1.2], [9.0], [10.0]], np.float32)
        ids = np.array(list("abcde"))
        rows, squared = medoids(line, ids, np.array([0, 4]))
        # Means .733 and 9.5; d and e are equally near, so the lower id.
        assert rows.tolist() == [1, 3]
        assert squared.tolist() == pytest.approx([(1 - 2.2 / 3) ** 2, 0.25], rel=1e-5)

    def test_twins_of_picks_stay_apart(self) -> None:
        twins = np.ones((4, 2), np.float32)
        rows, _ = medoids(twins, np.array(list("dcba")), np.array([3, 1, 2]))
        assert sorted(rows.tolist()) == [1, 2, 3]

    def test_any_split_gives_the_same_bits(self) -> None:
        points, ids, _, _ = made()
        picks = np.arange(0, len(ids), 37)
        rows, squared = medoids(points, ids, picks)
        scale = make_scale(len(ids), 5, float(np.abs(points).max()))
        chosen, names = np.ascontiguousarray(points[picks]), ids[picks]
        for parts in (2, 7):
            split = np.array_split(np.random.default_rng(parts).permutation(len(ids)), parts)
            split_rows = [ShardRows(ids[r], points[r]) for r in split]
            split_rows.append(ShardRows(ids[:0], points[:0]))  # a worker without rows
            sums = [local_cells(part, names, chosen, scale) for part in split_rows]
            means = cell_means(merge_cells(sums, len(picks)), scale)
            found = merge_medoids(
                [local_medoids(part, names, chosen, means) for part in split_rows]
            )
            assert found.ids.tolist() == ids[rows].tolist()
            assert found.squared.tobytes() == squared.tobytes()


def test_interleaving_spreads_every_prefix() -> None:
    cluster = np.repeat(np.arange(5), [4, 3, 2, 1, 1])
    position = np.concatenate([np.arange(n) for n in (4, 3, 2, 1, 1)])
    order = interleave(cluster, position, seed=1)
    assert sorted(cluster[order][:5].tolist()) == [0, 1, 2, 3, 4]
    assert position[order].tolist() == sorted(position.tolist())
