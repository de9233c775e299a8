"""Near pairs are those of the canonical distance, whatever the blocks and the scale."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.distances import distances_to
from balancer.selection import near_pairs as module
from balancer.selection.near_pairs import (
    RankedRows,
    TooManyPairsError,
    earliest_near,
    near_pairs,
)
from balancer.types import FloatArray
from tests.selection.near_data import near_rows


def ranked(points: FloatArray, seed: int = 1) -> RankedRows:
    """Return all rows with ranks in a random order."""
    ranks = np.random.default_rng(seed).permutation(len(points))
    return RankedRows(points, np.arange(len(points)), ranks)


def all_pairs(rows: RankedRows, limit: float) -> dict[tuple[int, int], np.float32]:
    found = {}
    for i, rank in enumerate(rows.ranks.tolist()):
        squared = distances_to(rows.base, rows.base[i])
        for j in np.flatnonzero(squared <= limit).tolist():
            other = int(rows.ranks[j])
            if rank < other:
                found[rank, other] = squared[j]
    return found


def test_a_pair_at_the_limit_counts() -> None:
    line = np.array([[0.0], [0.5], [1.25]], np.float32)
    rows = RankedRows(line, np.arange(3), np.array([2, 0, 1]))
    assert near_pairs(rows, rows, 0.25).second.tolist() == [2]
    assert len(near_pairs(rows, rows, 0.2499999)) == 0
    both = near_pairs(rows, rows, 0.5625)
    assert list(zip(both.first.tolist(), both.second.tolist(), strict=True)) == [(0, 1), (0, 2)]


@pytest.mark.parametrize("blocks", [(512, 2048), (7, 50), (64, 3)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 0.0), (1.0, 300.0)])
def test_pairs_are_those_of_the_canonical_distance(
    monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, int], scale: float, shift: float
) -> None:
    monkeypatch.setattr(module, "LEFT_BLOCK", blocks[0])
    monkeypatch.setattr(module, "RIGHT_BLOCK", blocks[1])
    points = (near_rows(200)[0] * np.float32(scale) + np.float32(shift)).astype(np.float32)
    rows = ranked(points)
    # A distance that occurs, so that pairs lie exactly at the limit.
    limit = float(distances_to(points, points[3])[17])
    expected = all_pairs(rows, limit)
    assert len(expected) > 20
    halves = rows.take(slice(0, 90)), rows.take(slice(90, None))
    among = [near_pairs(rows, rows, limit)]
    apart = [near_pairs(half, half, limit) for half in halves] + [near_pairs(*halves, limit)]
    for parts in (among, apart):
        joined = module.merge_pairs(parts)
        places = zip(joined.first.tolist(), joined.second.tolist(), strict=True)
        assert dict(zip(places, joined.squared, strict=True)) == expected


def test_earliest_is_the_first_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIGHT_BLOCK", 16)
    points, _ = near_rows(200)
    rows = ranked(points)
    expected: dict[int, int] = {}
    for first, second in sorted(all_pairs(rows, 0.1)):
        expected.setdefault(second, first)
    found, squared = earliest_near(rows, rows.take(np.argsort(rows.ranks)), 0.1)
    assert found.tolist() == [expected.get(rank, -1) for rank in rows.ranks.tolist()]
    assert np.isnan(squared[found < 0]).all()
    assert (squared[found >= 0] <= 0.1).all()


def test_too_many_pairs() -> None:
    rows = ranked(np.ones((50, 4), np.float32))
    assert len(near_pairs(rows, rows, 0.0, most=50 * 50)) == 50 * 49 // 2
    with pytest.raises(TooManyPairsError, match="than the 100 that may be listed"):
        near_pairs(rows, rows, 0.0, most=100)
