"""Keys that underflow float32: engine and exchange agree with the plain scan all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from balancer.distances import id_ranks
from balancer.selection.bounds import Options
from balancer.selection.exchange import ExchangeShard, Offer, exchange
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.types import FloatArray, IdArray, IntArray

pytestmark = pytest.mark.filterwarnings("ignore:Embeddings must have a row of:RuntimeWarning")

SCALES = (1e-24, 3e-23, 1e-22, 1e-21, 1e-17)
"""Rows closer than about 3e-23 have a squared distance below the least float32."""


def tiny_rows(seed: int, scale: float) -> FloatArray:
    """Return 40 rows at one place, some exact repetitions, and three rows far away."""
    rng = np.random.default_rng(seed)
    points = scale * rng.standard_normal((43, 3))
    points[20:25] = points[:5]
    points[40:] *= 30
    return points.astype(np.float32)


def exchanged(
    points: FloatArray, ids: IdArray, count: int, options: Options, num_shards: int
) -> IntArray:
    """Pick over shards, from row 0 on."""
    shards = []
    for rows in np.array_split(np.random.default_rng(1).permutation(len(points)), num_shards):
        weights = None if options.weights is None else options.weights[rows]
        shard = ExchangeShard(points[rows].copy(), ids[rows], count + 1, Options(weights=weights))
        shard.apply(ids[:1], points[:1])
        shards.append(shard)

    def ask(news: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        for shard in shards:
            shard.apply(news, vectors)
        return [shard.offer(room) for shard in shards]

    found = exchange(ask, count - 1, dim=points.shape[1], room=3, skip=options.skip)
    return np.concatenate([[0], id_rows(ids, found.ids)])


def id_rows(ids: IdArray, wanted: IdArray) -> IntArray:
    return np.argsort(ids)[np.searchsorted(np.sort(ids), wanted)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("skip", [0, 1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_engines_agree(scale: float, skip: int, weighted: bool) -> None:
    for seed in range(5):
        points = tiny_rows(seed, scale)
        rng = np.random.default_rng(seed)
        ids = row_ids(len(points))[rng.permutation(len(points))]
        quality = rng.choice([1e-6, 1e-3, 1.0], len(points)) if weighted else None
        count = len(points) - skip
        plain, lazy = (
            farthest_point(
                points, count, first=0, ids=ids, quality=quality, num_outliers=skip, engine=engine
            )
            for engine in ("plain", "lazy")
        )
        assert lazy.indices.tolist() == plain.indices.tolist()
        assert lazy.outliers.tolist() == plain.outliers.tolist()
        assert lazy.distances.tobytes() == plain.distances.tobytes()
        weights = None if quality is None else (quality * quality).astype(np.float32)
        options = Options(weights=weights, skip=skip)
        for num_shards in (1, 3):
            found = exchanged(points, ids, count, options, num_shards)
            assert found.tolist() == plain.indices.tolist()


def test_a_pick_at_zero_can_bring_an_outlier_to_zero() -> None:
    # Row 2 is 1.2e-22 from row 0 and 0.7e-22 from row 1: its key falls from 1.4e-44 to 5e-45. Row 1
    # is a pick at 0 that is no repetition.
    points = np.array([[0.0], [1e-23], [3.2e-23], [0.0]], dtype=np.float32)
    assert id_ranks(row_ids(4)).tolist() == [0, 1, 2, 3]
    for skip in (0, 1):
        plain, lazy = (
            farthest_point(points, 4 - skip, first=0, num_outliers=skip, engine=engine)
            for engine in ("plain", "lazy")
        )
        assert lazy.indices.tolist() == plain.indices.tolist()
        assert lazy.outliers.tolist() == plain.outliers.tolist()
