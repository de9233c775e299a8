"""A shard's engine never changes a pick: compiled, any filter, torch, mixed, after any death."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import SelectionConfig
from balancer.config_selection import FilterName
from balancer.distances import l2_normalize
from balancer.errors import ConfigError
from balancer.selection import select
from balancer.selection.bounds import Options
from balancer.selection.coresets import finalize_coreset, local_coreset, merge_coresets
from balancer.selection.exchange import ExchangeShard, Offer, Picks
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.selection.filters import BLAS, FASTEST, FILTERS
from balancer.selection.pool import run_farthest
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.types import FloatArray, IdArray
from tests.selection.test_filters import KINDS, rows_of_kind
from tests.selection.test_filters import ON_CPU as FILTERS_ON_CPU

TORCH = EngineChoice("cpu:0")
"""Torch's own name of the CPU, which is a device like any other to it."""
ENGINES = (ON_CPU, TORCH, *(EngineChoice(filter=name) for name in FILTERS_ON_CPU))


class MixedShards:
    """Shards that keep their bounds with different engines, and may lose them."""

    def __init__(
        self,
        points: FloatArray,
        ids: IdArray,
        engines: Sequence[EngineChoice],
        capacity: int,
        weights: FloatArray | None = None,
    ) -> None:
        self._parts = [np.arange(len(ids))[place :: len(engines)] for place in range(len(engines))]
        self._points, self._ids, self._weights = points, ids, weights
        self._engines, self._capacity = engines, capacity
        self._known: list[tuple[IdArray, FloatArray]] = []
        self._shards = [self._new(place) for place in range(len(engines))]
        self.trips = 0
        self.kill_every = 0

    def _new(self, place: int) -> ExchangeShard:
        rows = self._parts[place]
        options = Options(weights=None if self._weights is None else self._weights[rows])
        shard = ExchangeShard(
            np.ascontiguousarray(self._points[rows]),
            self._ids[rows],
            self._capacity,
            options,
            self._engines[place],
        )
        if self._known:
            shard.apply(*(np.concatenate(part) for part in zip(*self._known, strict=True)))
        return shard

    def ask(self, ids: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
        for shard in self._shards:
            shard.apply(ids, vectors)
        if len(ids):
            self._known.append((ids, vectors))
        self.trips += 1
        if self.kill_every and self.trips % self.kill_every == 0:
            place = self.trips // self.kill_every % len(self._shards)
            self._shards[place] = self._new(place)  # rebuilt from the picks alone
        return [shard.offer(room) for shard in self._shards]


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    engines=st.lists(st.sampled_from(ENGINES), min_size=1, max_size=3),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    room=st.sampled_from([1, 3, 40]),
    skip=st.sampled_from([0, 2]),
    weighted=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_engines_pick_as_the_plain_scan(
    seed: int,
    kind: str,
    engines: list[EngineChoice],
    scale: float,
    room: int,
    skip: int,
    weighted: bool,
) -> None:
    rng = np.random.default_rng(seed)
    count, dim = int(rng.integers(8, 150)), int(rng.integers(1, 20))
    points = rows_of_kind(kind, seed, count, dim, scale=scale)
    ids = rng.permutation(row_ids(count))
    quality = rng.choice([0.2, 0.7, 1.0], count) if weighted else None
    num_picks = int(rng.integers(2, count - skip + 1))
    plain = farthest_point(
        points, num_picks, first=0, ids=ids, quality=quality, num_outliers=skip, engine="plain"
    )
    weights = None if quality is None else (quality * quality).astype(np.float32)
    shards = MixedShards(points, ids, engines, num_picks + 1, weights)
    shards.kill_every = int(rng.integers(0, 4))
    first = Picks(ids[:1], points[:1], np.empty(0, np.float32))
    shards.ask(first.ids, first.vectors, 1)
    found = run_farthest(shards.ask, num_picks - 1, dim=dim, room=room, skip=skip)
    assert found.picks.ids.tolist() == ids[plain.indices[1:]].tolist()
    assert np.sqrt(found.picks.keys).tolist() == plain.distances[1:].tolist()
    assert np.float32(found.radius) == np.float32(plain.radius)
    assert found.farthest_id == (None if plain.farthest < 0 else ids[plain.farthest])


def test_torch_makes_many_picks_per_round_trip() -> None:
    points = rows_of_kind("gaussian", 0, 6000, 12)
    ids = row_ids(len(points))
    trips = []
    for engine in (ON_CPU, TORCH):
        shards = MixedShards(points, ids, [engine] * 2, 401)
        shards.ask(ids[:1], points[:1], 1)
        found = run_farthest(shards.ask, 400, dim=12, room=80)
        trips.append(shards.trips)
        expected = farthest_point(points, 401, first=0).indices[1:]
        assert found.picks.ids.tolist() == ids[expected].tolist()
    assert trips[1] <= 1.2 * trips[0]


def test_one_row_is_offered_with_its_quality() -> None:
    weights = np.array([0.25], np.float32)
    for engine in ENGINES:
        bounds = engine.bounds(
            np.ones((1, 3), np.float32), np.zeros(1, np.int64), 2, Options(weights=weights)
        )
        bounds.add(np.zeros((1, 3), np.float32))
        rows, held, _ = bounds.offer(4)
        assert (rows.keys.tolist(), rows.weights.tolist(), held) == ([0.75], [0.25], -1.0)
        bounds.leave_out(np.array([0]))
        rows, held, _ = bounds.offer(4)
        assert (len(rows.keys), held) == (0, -1.0)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: f"{e.device}-{e.filter}")
def test_excluded_rows_may_hold_anything(engine: EngineChoice) -> None:
    points = rows_of_kind("gaussian", 3, 120, 4)
    excluded = np.arange(120) % 5 == 1
    points[excluded] = np.nan
    ids = row_ids(120)
    plain = farthest_point(
        points, 60, first=0, ids=ids, excluded=excluded, metric="cosine", engine="plain"
    )
    shard = ExchangeShard(points, ids, 61, Options(cosine=True, excluded=excluded), engine)

    def ask(new: IdArray, vectors: FloatArray, room: int) -> list[Offer]:
        shard.apply(new, vectors)
        return [shard.offer(room)]

    shard.apply(ids[:1], l2_normalize(points[:1]))
    found = run_farthest(ask, 59, dim=4, room=7)
    assert found.picks.ids.tolist() == ids[plain.indices[1:]].tolist()
    nothing = ExchangeShard(
        points[excluded],
        ids[excluded],
        2,
        Options(cosine=True, excluded=excluded[excluded]),
        engine,
    )
    nothing.apply(ids[:1], l2_normalize(points[:1]))
    offer = nothing.offer(3)
    assert (len(offer.ids), offer.held_key) == (0, -1)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: f"{e.device}-{e.filter}")
def test_coresets_are_the_same(engine: EngineChoice) -> None:
    points, ids = rows_of_kind("gaussian", 1, 300, 5), row_ids(300)
    found = []
    for choice in (ON_CPU, engine):
        parts = [
            local_coreset(points[rows], ids[rows], 12, epsilon=0.5, seed=4, engine=choice)
            for rows in np.array_split(np.arange(300), 3)
        ]
        picks = finalize_coreset(merge_coresets(parts), seed=4, engine=choice)
        found.append((picks.ids.tolist(), picks.distances.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("strategy", ["farthest-point", "hybrid", "composable", "per-cluster"])
def test_the_library_call_takes_the_choice(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.selection.stratum_picks.BIG_ROWS", 50)
    monkeypatch.setattr("balancer.selection.stratum_picks.BIG_PICKS", 1)
    points, ids = rows_of_kind("gaussian", 2, 400, 6), row_ids(400)
    picked = []
    for choice in ({}, {"device": "cpu:0"}, {"filter": "torch"}, {"filter": "fastest"}):
        config = SelectionConfig.model_validate({"budget": 40, "strategy": strategy, **choice})
        picked.append(select(points, config, ids=ids, seed=1).tile_ids.tolist())
    assert picked.count(picked[0]) == 4


def test_the_device_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    module = importlib.import_module("balancer.selection.farthest_point")
    monkeypatch.setattr(module, "require_device", asked.append)
    config = SelectionConfig(budget=5, strategy="farthest-point", device="cpu:0")
    select(rows_of_kind("gaussian", 2, 40, 6), config)
    assert asked
    assert set(asked) == {"cpu:0"}


def test_what_auto_means() -> None:
    assert EngineChoice().on("cuda") == EngineChoice("cuda")
    assert EngineChoice().on("cpu") == ON_CPU
    assert EngineChoice(filter="faiss").on("cuda") == EngineChoice("cpu", "faiss")
    assert EngineChoice("cuda").on("cpu") == EngineChoice("cuda")


def test_messages() -> None:
    line, ranks = np.zeros((3, 1), np.float32), np.arange(3)
    with pytest.raises(ConfigError, match="A filter is for the CPU, because a device has its own"):
        EngineChoice("cuda", "faiss").bounds(line, ranks, 2)
    with pytest.raises(ConfigError, match="device must be one that torch can use here; got 'tpu'"):
        EngineChoice("tpu").bounds(line, ranks, 2)
    with pytest.raises(ValueError, match="filter must be one of blas, torch"):
        EngineChoice("cpu", "knn").bounds(line, ranks, 2)
    for engine in (ON_CPU, TORCH):
        with pytest.raises(ValueError, match="at most 2 picks, the capacity; got 3"):
            engine.bounds(line, ranks, 2).add(line)
    with pytest.raises(ValueError, match="filter must be blas on the device cuda"):
        SelectionConfig(budget=3, device="cuda", filter="faiss")


def test_the_configuration_knows_every_filter() -> None:
    assert get_args(FilterName) == (BLAS, FASTEST, *FILTERS)


def test_rows_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from balancer.selection import device_engine

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(device_engine, "DeviceState", refuse)
    with pytest.raises(ConfigError, match=r"must fit on the device cpu:0.*3 rows of 1 columns"):
        TORCH.bounds(np.zeros((3, 1), np.float32), np.arange(3), 2)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_shards_on_a_gpu(kind: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    points = rows_of_kind(kind, 3, 5000, 33)
    ids = row_ids(len(points))
    expected = farthest_point(points, 900, first=0, ids=ids, engine="plain")
    shards = MixedShards(points, ids, [EngineChoice("cuda"), ON_CPU, EngineChoice("cuda")], 901)
    shards.kill_every = 2
    shards.ask(ids[:1], points[:1], 1)
    found = run_farthest(shards.ask, 899, dim=33, room=150)
    assert found.picks.ids.tolist() == ids[expected.indices[1:]].tolist()
