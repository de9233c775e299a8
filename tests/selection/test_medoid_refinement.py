"""Medoid refinement: a hand-made line, the slow definition, ties, and any sharding."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.selection.medoid_refinement import cell_sizes, refine
from balancer.selection.pool import ArrayPool
from balancer.types import FloatArray, IdArray
from tests.selection.sharded_pool import ShardedPool


def rows(seed: int = 0, count: int = 60) -> tuple[FloatArray, IdArray]:
    """Return rows in the plane with repetitions, and ids in another order."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, 2)).astype(np.float32)
    points[10:20] = points[:10]
    return points, np.array([f"t{number:03d}" for number in rng.permutation(count)])


def slow_cells(points: FloatArray, ids: IdArray, picks: IdArray) -> list[list[int]]:
    """Return the rows of each pick's Voronoi cell by the definition, in loops."""
    place = {name: row for row, name in enumerate(ids.tolist())}
    chosen = [place[name] for name in picks.tolist()]
    cells: list[list[int]] = [[] for _ in chosen]
    for row in range(len(points)):
        squared = ((points[chosen].astype(np.float64) - points[row]) ** 2).sum(axis=1)
        cells[chosen.index(row) if row in chosen else int(squared.argmin())].append(row)
    return cells


def test_a_line_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.0], [9.0], [10.0]], np.float32)
    ids = np.array(["a", "b", "c", "d", "e"])
    refined = refine(ArrayPool(line, ids), np.array(["a", "e"]))
    assert refined.ids.tolist() == ["b", "d"]  # 9 and 10 lie equally near 9.5: the lower id
    assert refined.counts.tolist() == [3, 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((50, 3)).astype(np.float32)
    ids = np.array([f"t{number}" for number in rng.permutation(50)])
    picks = ids[rng.permutation(50)[:7]]
    refined = refine(ArrayPool(points, ids), picks)
    for medoid, count, cell in zip(
        refined.ids, refined.counts, slow_cells(points, ids, picks), strict=True
    ):
        members = points[cell].astype(np.float64)
        squared = ((members - members.mean(axis=0)) ** 2).sum(axis=1)
        # Two rows lie equally far from their mean, so the row itself is not asked for.
        assert squared[ids[cell].tolist().index(medoid)] <= squared.min() + 1e-6
        assert count == len(cell)


@pytest.mark.parametrize("num_shards", [2, 5, 60])
def test_any_sharding(num_shards: int) -> None:
    points, ids = rows()
    picks = ids[:13]
    expected = refine(ArrayPool(points, ids), picks)
    found = refine(ShardedPool(points, ids, num_shards), picks)
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.counts.tolist() == expected.counts.tolist()


def test_identical_picks_keep_a_cell_each() -> None:
    points, ids = np.ones((6, 2), np.float32), np.array(list("abcdef"))
    refined = refine(ArrayPool(points, ids), np.array(["e", "c", "f"]))
    assert sorted(set(refined.ids.tolist())) == sorted(refined.ids.tolist())
    assert refined.counts.sum() == 6
    assert refined.counts.min() >= 1


def test_every_row_picked() -> None:
    points, ids = rows()
    refined = refine(ArrayPool(points, ids), ids)
    assert refined.ids.tolist() == ids.tolist()
    assert refined.counts.tolist() == [1] * len(ids)


def test_cell_sizes_add_up_for_any_sharding() -> None:
    points, ids = rows()
    whole = cell_sizes(ArrayPool(points, ids), ids[:9])
    assert whole.sum() == len(ids)
    assert cell_sizes(ShardedPool(points, ids, 4), ids[:9]).tolist() == whole.tolist()
