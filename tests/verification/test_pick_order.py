"""The verifier's order of picks against the selection's, and against counting row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.distances import nearest_rows, paired_distances
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.types import FloatArray, IdArray, IntArray
from balancer.verification import canonical, pick_order
from balancer.verification.canonical import nearest_before, nearest_of, squared_distances, weigh
from balancer.verification.pick_order import Ahead, Claimed, count_ahead
from tests.selection.test_engine import KINDS, SCALES, make_points


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    dim=st.sampled_from([1, 3, 7, 8, 9, 16, 33]),
    scale=st.sampled_from([1e-21, *SCALES]),
    block=st.sampled_from([1, 7, 1024]),
)
@settings(max_examples=60, deadline=None)
def test_distances_have_the_bits_of_the_selection(
    seed: int, kind: str, dim: int, scale: float, block: int
) -> None:
    points = make_points(kind, 40, dim, scale, np.random.default_rng(seed))
    own = np.arange(40)
    for shift in (1, 7):
        others = np.roll(points, shift, axis=0)
        expected = paired_distances(points, others, own)
        assert squared_distances(points, others).tobytes() == expected.tobytes()
    before = [np.inf] + [nearest_rows(points[[i]], points[:i])[1][0] for i in range(1, 40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "_ROWS", block)
        patch.setattr(canonical, "_PAIRS", block)
        assert nearest_before(points).tolist() == np.array(before, np.float32).tolist()
        expected = nearest_rows(points[9:], points[:9])[1]
        assert nearest_of(points[9:], points[:9]).tobytes() == expected.tobytes()


def counted(
    points: FloatArray,
    ids: IdArray,
    order: IntArray,
    outliers: IntArray,
    weights: FloatArray | None,
) -> Ahead:
    """Count row by row, from the definition."""

    def number(row: int, picked: IntArray, among: IntArray) -> int:
        keys = weigh(nearest_rows(points, points[picked])[1], weights)
        return sum(
            bool(keys[i] > keys[row] or (keys[i] == keys[row] and ids[i] < ids[row]))
            for i in among.tolist()
        )

    rows = np.arange(len(points))
    picks = [0] + [
        number(order[j], order[:j], np.setdiff1d(rows, order[:j])) for j in range(1, len(order))
    ]
    left = np.setdiff1d(rows, order)
    last = [number(row, order, left) for row in outliers.tolist()]
    return Ahead(np.array(picks, np.int64), np.array(last, np.int64))


def claim(
    points: FloatArray,
    ids: IdArray,
    order: IntArray,
    outliers: IntArray,
    weights: FloatArray | None,
) -> Claimed:
    keys = nearest_before(points[order])
    return Claimed(
        ids[order],
        points[order],
        weigh(keys, None if weights is None else weights[order]),
        1,
        ids[outliers],
        points[outliers],
        None if weights is None else weights[outliers],
    )


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from(SCALES),
    num_outliers=st.sampled_from([0, 0, 1, 4]),
    weighted=st.booleans(),
    columns=st.sampled_from([1, 3, 256]),
)
@settings(max_examples=60, deadline=None)
def test_counts_what_is_ahead(
    seed: int, kind: str, scale: float, num_outliers: int, weighted: bool, columns: int
) -> None:
    """None, or as many as outliers, for the picks of the plain scan; as counted for any other."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([6, 30]))
    points = make_points(kind, count, int(rng.choice([1, 4, 9])), scale, rng)
    ids = rng.permutation(row_ids(count))
    quality = rng.choice([0.2, 0.5, 1.0], count) if weighted else None
    weights = None if quality is None else (quality * quality).astype(np.float32)
    num_picks = int(rng.integers(1, count - num_outliers + 1))
    run = farthest_point(
        points,
        num_picks,
        first=int(rng.integers(count)),
        ids=ids,
        quality=quality,
        num_outliers=num_outliers,
        engine="plain",
    )
    blocks = [
        (ids[rows], points[rows], None if weights is None else weights[rows])
        for rows in np.array_split(rng.permutation(count), 3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pick_order, "_COLUMNS", columns)
        patch.setattr(pick_order, "_ROWS", 2 * columns)
        found = count_ahead(blocks, claim(points, ids, run.indices, run.outliers, weights))
        assert found.picks.tolist() == [0] + [num_outliers] * (num_picks - 1)
        assert found.outliers.tolist() == list(range(num_outliers))
        order = rng.permutation(count)
        picks, outliers = order[:num_picks], order[num_picks : num_picks + num_outliers]
        found = count_ahead(blocks, claim(points, ids, picks, outliers, weights))
    expected = counted(points, ids, picks, outliers, weights)
    assert found.picks.tolist() == expected.picks.tolist()
    assert found.outliers.tolist() == expected.outliers.tolist()
