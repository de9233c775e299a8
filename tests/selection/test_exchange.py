"""Many picks per round trip, and still those of one array: any sharding, any room, any death."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.selection.bounds import Options
from balancer.selection.exchange import (
    REPLY_BYTES,
    ExchangeShard,
    ExchangeStats,
    Offer,
    Picks,
    exchange,
    nothing_to_offer,
    room_for,
)
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.types import FloatArray, IdArray, IntArray
from tests.selection.test_engine import KINDS, SCALES, make_points


class Shards:
    """Shards in this process, which may lose their state."""

    def __init__(self, points: FloatArray, ids: IdArray, owner: IntArray, capacity: int) -> None:
        self._parts = [
            (np.ascontiguousarray(points[owner == s]), ids[owner == s]) for s in np.unique(owner)
        ]
        self._capacity = capacity
        self._known: list[tuple[IdArray, FloatArray]] = []
        self.shards = [self._new(part) for part in range(len(self._parts))]
        self.offers: list[Offer] = []
        self.kill_at: dict[int, int] = {}
        self.trips = 0

    def _new(self, part: int) -> ExchangeShard:
        shard = ExchangeShard(*self._parts[part], self._capacity)
        for ids, vectors in self._known:
            shard.apply(ids, vectors)
        return shard

    def ask(self, ids: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        if self.trips in self.kill_at:  # rebuilt from the picks alone
            part = self.kill_at[self.trips]
            self.shards[part] = self._new(part)
        self.trips += 1
        self._known.append((ids, vectors))
        for shard in self.shards:
            shard.apply(ids, vectors)
        offers = [shard.offer(room) for shard in self.shards]
        self.offers += offers
        return [*offers, nothing_to_offer()]  # a worker without rows


def run_shards(shards: Shards, first: Picks, num_picks: int, room: int) -> Picks:
    def ask(ids: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        return shards.ask(
            *((first.ids, first.vectors) if shards.trips == 0 else (ids, vectors)), room
        )

    return exchange(ask, num_picks, dim=first.vectors.shape[1], room=room)


@given(
    seed=st.integers(0, 1_000_000),
    kind=st.sampled_from(KINDS),
    num_shards=st.sampled_from([1, 2, 3, 8]),
    room=st.sampled_from([1, 2, 7, 64]),
    scale=st.sampled_from(SCALES),
    killed=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_same_picks_for_any_sharding(
    seed: int, kind: str, num_shards: int, room: int, scale: float, killed: bool
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.choice([3, 60, 400]))
    points = make_points(kind, count, int(rng.choice([1, 5, 16])), scale, rng)
    ids = rng.permutation(row_ids(count))
    num_picks, first = int(rng.integers(2, count + 1)), int(rng.integers(count))
    expected = farthest_point(points, num_picks, first=first, ids=ids, engine="plain")
    owner = rng.integers(0, num_shards, count)
    shards = Shards(points, ids, owner, num_picks)
    if killed:
        shards.kill_at = {trip: trip % len(shards.shards) for trip in (1, 2, 5)}
    start = Picks(ids[[first]], points[[first]], np.empty(0, np.float32))
    found = run_shards(shards, start, num_picks - 1, room)
    assert found.ids.tolist() == ids[expected.indices[1:]].tolist()
    assert np.sqrt(found.keys).tobytes() == expected.distances[1:].tobytes()


def test_the_rows_end() -> None:
    points = make_points("general", 6, 3, 1.0, np.random.default_rng(0))
    ids = row_ids(6)
    shards = Shards(points, ids, np.array([0, 0, 1, 1, 1, 1]), 20)
    found = run_shards(shards, Picks(ids[:1], points[:1], np.empty(0, np.float32)), 19, 4)
    assert sorted(found.ids.tolist()) == ids[1:].tolist()


def test_replies_stay_below_the_inline_limit() -> None:
    for dim in (8, 128, 2048):
        ids = np.array([f"scene-{number:032d}" for number in range(3000)])
        points = np.random.default_rng(0).standard_normal((3000, dim)).astype(np.float32)
        shard = ExchangeShard(points, ids, 10)
        shard.apply(ids[:1], points[:1])
        offer = shard.offer(room_for(dim, ids.dtype.itemsize))
        parts = (offer.ids, offer.vectors, offer.keys, offer.weights)
        size = sum(part.nbytes for part in parts) + 2048  # and what pickling adds
        assert size < 100 * 1024
        assert REPLY_BYTES < 100 * 1024


def test_many_picks_per_round_trip() -> None:
    points = make_points("general", 20_000, 16, 1.0, np.random.default_rng(0))
    ids = row_ids(len(points))
    shards = Shards(points, ids, np.arange(len(points)) % 8, 801)
    run_shards(shards, Picks(ids[:1], points[:1], np.empty(0, np.float32)), 800, 150)
    assert 800 / shards.trips > 50


def test_outliers_are_left_out_over_shards_too() -> None:
    points = make_points("clusters", 300, 4, 1.0, np.random.default_rng(0))
    ids = row_ids(300)
    shards = Shards(points, ids, np.arange(300) % 3, 50)

    def ask(new: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        return shards.ask(*((ids[:1], points[:1]) if shards.trips == 0 else (new, vectors)), room)

    found = exchange(ask, 49, dim=4, room=2, skip=9)
    expected = farthest_point(points, 50, first=0, num_outliers=9, engine="plain")
    assert found.ids.tolist() == ids[expected.indices[1:]].tolist()


def test_quality_weighs_rows_over_shards() -> None:
    points = make_points("general", 200, 4, 1.0, np.random.default_rng(0))
    ids, quality = row_ids(200), np.linspace(0.1, 1, 200).astype(np.float32)
    shard = ExchangeShard(points, ids, 30, Options(weights=quality * quality))
    shard.apply(ids[:1], points[:1])

    def ask(new: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        shard.apply(new, vectors)
        return [shard.offer(room)]

    found = exchange(ask, 29, dim=4, room=5)
    expected = farthest_point(points, 30, first=0, quality=quality, engine="plain")
    assert found.ids.tolist() == ids[expected.indices[1:]].tolist()


def test_shards_of_one_row_weigh_theirs() -> None:
    points = np.array([[0], [10], [9], [4]], np.float32)
    quality = np.array([1, 1, 0.5, 0.3], np.float32)
    ids = row_ids(4)
    shards = [
        ExchangeShard(points[[row]], ids[[row]], 4, Options(weights=(quality * quality)[[row]]))
        for row in range(4)
    ]
    for shard in shards:
        shard.apply(ids[:1], points[:1])

    def ask(new: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        for shard in shards:
            shard.apply(new, vectors)
        return [shard.offer(room) for shard in shards[1:]]

    found = exchange(ask, 3, dim=1, room=2)
    expected = farthest_point(points, 4, first=0, quality=quality, engine="plain")
    assert found.ids.tolist() == ids[expected.indices[1:]].tolist()


def test_a_shard_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="must have rows"):
        ExchangeShard(np.empty((0, 3), np.float32), np.empty(0, np.str_), 3)
    points = make_points("general", 9, 3, 1.0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at most 2 picks, the capacity"):
        ExchangeShard(points, row_ids(9), 2).apply(row_ids(9)[:3], points[:3])


def test_stats_name_the_straggler() -> None:
    stats = ExchangeStats(100, 4, 2.0, 1.5, 0.5, [0, 3, 1])
    assert stats.picks_per_trip == 25
    assert stats.latency_share == pytest.approx(0.25)
    assert stats.describe() == (
        "100 picks in 4 round trips, 25% latency, waiting mostly for worker 1"
    )
    assert ExchangeStats().describe() == "0 picks in 0 round trips, 0% latency"
