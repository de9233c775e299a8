from __future__ import annotations

import numpy as np
import pytest

from balancer.clustering.assignment import assign
from balancer.clustering.members import MemberRule, local_members, merge_members
from balancer.seeding import hash_ids
from balancer.types import ShardRows


def test_nearest_by_hand() -> None:
    points = np.array([[0.0], [1.0], [-1.0], [9.0], [10.0]], dtype=np.float32)
    centroids = np.array([[0.0], [10.0]], dtype=np.float32)
    rows = ShardRows(np.array(["c", "b", "a", "e", "d"]), points)
    found = local_members(rows, centroids, np.array([2, 1]), "nearest", 0)
    assert found.ids.tolist() == ["c", "a", "d"]  # a and b are equally far: the lower id
    assert found.cluster.tolist() == [0, 0, 1]
    assert found.points[:, 0].tolist() == [0.0, -1.0, 10.0]


@pytest.mark.parametrize("rule", ["nearest", "random"])
@pytest.mark.parametrize("num_shards", [1, 3, 7])
def test_any_sharding_gives_the_slow_choice(rule: MemberRule, num_shards: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, (300, 3)).astype(np.float32)  # many ties
    ids = np.array([f"t{number:x}" for number in rng.permutation(300)])
    centroids = rng.standard_normal((12, 3)).astype(np.float32)
    counts = rng.integers(0, 9, 12)
    owner = rng.integers(0, num_shards, 300)
    parts = [
        local_members(
            ShardRows(ids[owner == s], np.ascontiguousarray(points[owner == s])),
            centroids,
            counts,
            rule,
            5,
        )
        for s in range(num_shards)
    ]
    found = merge_members(parts, counts)
    labels, squared = assign(points, centroids)
    keys = squared if rule == "nearest" else hash_ids(ids, 5)
    expected = []
    for cluster in range(12):
        mine = [(keys[i], ids[i]) for i in np.flatnonzero(labels == cluster)]
        expected += [name for _, name in sorted(mine)[: counts[cluster]]]
    assert found.ids.tolist() == expected


def test_nothing_wanted_and_nothing_given() -> None:
    rows = ShardRows(np.array(["a"]), np.zeros((1, 2), np.float32))
    none = local_members(rows, np.zeros((1, 2), np.float32), np.array([0]), "nearest", 0)
    assert len(none.ids) == 0
    with pytest.raises(ValueError, match="at least one shard's part; got none"):
        merge_members([], np.array([1]))
