"""Random selection problems, and engines that must solve them as the plain scan does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.distances import l2_normalize
from balancer.selection import engine, filtered_catch_up
from balancer.selection.bounds import Options
from balancer.selection.device_engine import DeviceBounds
from balancer.selection.exchange import ExchangeShard, Offer, nothing_to_offer
from balancer.selection.farthest_point import FarthestPoints, farthest_point, row_ids
from balancer.selection.outliers import local_outliers, merge_outliers
from balancer.selection.pool import run_farthest
from balancer.selection.quality import Quality
from balancer.selection.shard_bounds import EngineChoice
from balancer.types import BoolArray, DoubleArray, FloatArray, IdArray, IntArray, ShardRows
from tests.selection.test_engine import KINDS, SCALES, make_points

CHOICES: dict[str, tuple[Any, ...]] = {
    "engine": ("array", "shards", "device"),
    "shards": (1, 2, 3, 8),
    "filter": ("blas", "torch", "torch-tf32", "torch-bfloat16", "faiss"),
    "block": ("tuned", "tiny", "odd"),
    "rebuilt": (False, True),
    "rows": KINDS,
    "scale": SCALES,
    "N": (2, 9, 60, 300, 700),
    "D": (1, 2, 3, 7, 8, 9, 16, 65),
    "metric": ("euclidean", "cosine"),
    "quality": (False, True),
    "outliers": (0, 1, 7),
    "included": (0, 1, 3),
    "excluded": (False, True),
}
"""What a case may vary in. `device` is the torch engine, here on the CPU; only `shards` has shards
and is rebuilt, and the device has a filter and blocks of its own."""


@dataclass(frozen=True)
class Case:
    """One problem.

    Attributes:
        values: the option of each of `CHOICES`.
        points: (N, D) float32; excluded rows hold NaN.
        ids: (N,).
        num_picks: included rows among them.
        given: rows that come first: included, or one to start from.
        quality: (N,) or None.
        excluded: (N,) or None.
        num_outliers: z.
        owner: (N,) shard of each row.
        room: rows per offer.
    """

    values: dict[str, Any]
    points: FloatArray
    ids: IdArray
    num_picks: int
    given: IntArray
    quality: DoubleArray | None
    excluded: BoolArray | None
    num_outliers: int
    owner: IntArray
    room: int


@dataclass(frozen=True)
class Solution:
    """Ids of the picks and of the outliers, distances as bytes, float32 radius, farthest id."""

    picks: list[str]
    distances: bytes
    outliers: list[str]
    radius: float
    farthest: str | None


def draw_case(seed: int, **fixed: Any) -> Case:  # noqa: ANN401 - values of `CHOICES`
    """Draw a problem; `fixed` names options that are not drawn."""
    rng = np.random.default_rng(seed)
    values = {name: options[rng.integers(len(options))] for name, options in CHOICES.items()}
    values |= fixed
    if values["engine"] == "device":
        values |= {"filter": "its own", "block": "its own"}
    if values["engine"] != "shards":
        values |= {"shards": "none", "rebuilt": "-"}
    count, dim = values["N"], values["D"]
    points = make_points(values["rows"], count, dim, values["scale"], rng)
    if values["metric"] == "cosine":
        points[~points.any(axis=1)] = np.float32(values["scale"])
    free = np.arange(count)
    excluded = None
    if values["excluded"]:
        excluded = rng.random(count) < 0.2
        excluded[rng.integers(count)] = False
        free = np.flatnonzero(~excluded)
        points[excluded] = np.nan
    num_outliers = min(values["outliers"], len(free) - 1)
    most = len(free) - num_outliers
    given = rng.permutation(free)[: max(1, min(values["included"], most))]
    return Case(
        values,
        points,
        rng.permutation(row_ids(count)),
        int(rng.integers(len(given), most + 1)),
        given,
        rng.choice([1e-6, 0.1, 0.5, 0.7, 1.0], count) if values["quality"] else None,
        excluded,
        num_outliers,
        rng.integers(0, values["shards"], count) if values["engine"] == "shards" else free[:0],
        int(rng.choice([1, 2, 7, 64])),
    )


def solve_plainly(case: Case) -> Solution:
    """Solve by the plain scan."""
    return _solution(case, farthest_point(case.points, engine="plain", **_options(case)))


def solve(case: Case) -> Solution:
    """Solve by the engine of the case."""
    with _blocks(case.values["block"]):
        if case.values["engine"] == "array":
            chosen = case.values["filter"]
            run = farthest_point(case.points, filter=chosen, **_options(case))
            return _solution(case, run)
        if case.values["engine"] == "device":
            return _solve_on_device(case)
        return _solve_over_shards(case)


def _options(case: Case) -> dict[str, Any]:
    return {
        "num_picks": case.num_picks,
        "ids": case.ids,
        "include": case.given,
        "quality": case.quality,
        "excluded": case.excluded,
        "num_outliers": case.num_outliers,
        "metric": case.values["metric"],
    }


def _solution(case: Case, run: FarthestPoints) -> Solution:
    return Solution(
        case.ids[run.indices].tolist(),
        run.distances[len(case.given) :].tobytes(),
        case.ids[run.outliers].tolist(),
        float(np.float32(run.radius)),
        str(case.ids[run.farthest]) if run.farthest >= 0 else None,
    )


def _weights(case: Case) -> FloatArray | None:
    return None if case.quality is None else (case.quality * case.quality).astype(np.float32)


def _solve_on_device(case: Case) -> Solution:
    points = case.points
    if case.excluded is not None:
        points = np.where(case.excluded[:, None], points[case.given[0]], points)
    points = l2_normalize(points) if case.values["metric"] == "cosine" else points
    ranks = np.argsort(np.argsort(case.ids))
    options = Options(False, _weights(case), case.excluded, case.num_outliers)
    bounds = DeviceBounds(points, ranks, case.num_picks, options, room=case.room)
    for row in case.given.tolist():
        bounds.take(row)
    bounds.run(case.num_picks)
    outliers, squared, row = bounds.outliers()
    return _solution(
        case,
        FarthestPoints(
            bounds.picked, np.sqrt(bounds.squared), float(np.sqrt(squared)), row, outliers
        ),
    )


def _solve_over_shards(case: Case) -> Solution:
    shards = _Shards(case)
    ids, vectors = case.ids[case.given], shards.read(case.given)
    shards.tell(ids, vectors)
    run = run_farthest(
        shards.ask,
        case.num_picks - len(ids),
        dim=vectors.shape[1],
        room=case.room,
        skip=case.num_outliers,
    )
    picked = np.concatenate([ids, run.picks.ids])
    chosen = np.concatenate([vectors, run.picks.vectors]) if len(run.picks.ids) else vectors
    return Solution(
        picked.tolist(),
        np.sqrt(run.picks.keys).tobytes(),
        shards.outliers(picked, chosen),
        float(np.float32(run.radius)),
        run.farthest_id,
    )


class _Shards:
    """Shards of a case in this process; some lose their state where the case says so."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._known: list[tuple[IdArray, FloatArray]] = []
        self._trips = 0
        self._parts = [np.flatnonzero(case.owner == s) for s in np.unique(case.owner)]
        self._shards = [self._new(rows) for rows in self._parts]

    def read(self, rows: IntArray) -> FloatArray:
        points = np.ascontiguousarray(self._case.points[rows])
        return l2_normalize(points) if self._case.values["metric"] == "cosine" else points

    def tell(self, ids: IdArray, vectors: FloatArray) -> None:
        self._known.append((ids, vectors))
        for shard in self._shards:
            shard.apply(ids, vectors)

    def ask(self, ids: IdArray, vectors: FloatArray, room: int) -> Sequence[Offer]:
        if self._case.values["rebuilt"] is True and self._trips in (1, 2, 5):
            place = self._trips % len(self._shards)
            self._shards[place] = self._new(self._parts[place])
        self._trips += 1
        if len(ids):
            self.tell(ids, vectors)
        return [*(shard.offer(room) for shard in self._shards), nothing_to_offer()]

    def outliers(self, picked: IdArray, vectors: FloatArray) -> list[str]:
        if not self._case.num_outliers:
            return []
        quality = None if self._case.quality is None else Quality("q", 1.0)
        parts = []
        for rows in self._parts:
            kept = rows if self._case.excluded is None else rows[~self._case.excluded[rows]]
            columns = {} if self._case.quality is None else {"q": self._case.quality[kept]}
            shard = ShardRows(self._case.ids[kept], self.read(kept), columns)
            if len(kept):
                parts.append(
                    local_outliers(shard, picked, vectors, self._case.num_outliers, quality)
                )
        found: list[str] = merge_outliers(parts, self._case.num_outliers).ids.tolist()
        return found

    def _new(self, rows: IntArray) -> ExchangeShard:
        case, weights = self._case, _weights(self._case)
        shard = ExchangeShard(
            np.ascontiguousarray(case.points[rows]),
            case.ids[rows],
            case.num_picks,
            Options(
                case.values["metric"] == "cosine",
                None if weights is None else weights[rows],
                None if case.excluded is None else case.excluded[rows],
            ),
            engine=EngineChoice("cpu", case.values["filter"]),
        )
        for ids, vectors in self._known:
            shard.apply(ids, vectors)
        return shard


@contextmanager
def _blocks(kind: str) -> Iterator[None]:
    """Set the sizes of the blocks that rows and picks are looked at in."""
    sizes: dict[str, tuple[tuple[int, ...], int, int, int]] = {
        "tiny": ((1, 2, 1 << 31), 1, 1, 2),
        "odd": ((7, 1 << 31), 17, 5, 9),
    }
    if kind not in sizes:
        yield
        return
    waves, rows, first, largest = sizes[kind]
    changes: list[tuple[Any, str, object]] = [
        (engine, "WAVES", waves),
        (engine, "TILE_ROWS", rows),
        (filtered_catch_up, "FIRST_BLOCK", first),
        (filtered_catch_up, "LARGEST_BLOCK", largest),
    ]
    before = [getattr(module, name) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(changes, before, strict=True):
            setattr(module, name, value)
