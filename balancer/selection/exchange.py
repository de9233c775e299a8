"""Exact farthest-point selection over shards, many picks per round trip.

Each shard catches up until its best rows are fresh and offers the best `room` of them, with the
best bound it did not offer (local). The coordinator picks from all offers while the best offered
row is above every bound that was not offered, ties included (merge), and sends the picks back. The
picks are those of the plain scan over all rows, for any sharding and any `room`.

A shard's state is rebuilt from the picks alone, so a worker that dies costs one pass over its rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from balancer.distances import id_ranks
from balancer.selection.bounds import DEFAULT, Options
from balancer.selection.engine import LAST_RANK
from balancer.selection.pick_loop import Rows, Stop, pick_offered
from balancer.selection.shard_bounds import ON_CPU, EngineChoice
from balancer.types import FloatArray, IdArray

REPLY_BYTES = 90_000
"""Ray sends replies below 100 KiB inline; larger ones take the object store and twice as long."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A shard's best rows, exact, and what it keeps back.

    Attributes:
        ids: (b,) tile ids.
        vectors: (b, D) float32.
        keys: (b,) float32 exact weighted squared distances to all picks.
        weights: (b,) float32 squared qualities.
        held_key: greatest bound among the rows not offered; -1 when there are none.
        held_id: lowest id among those at that bound.
        seconds: time the shard took, the picks it was told of included.
    """

    ids: IdArray
    vectors: FloatArray
    keys: FloatArray
    weights: FloatArray
    held_key: float
    held_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Picks:
    """Picks in order: (n,) ids, (n, D) float32 vectors, (n,) float32 keys."""

    ids: IdArray
    vectors: FloatArray
    keys: FloatArray


@dataclass(slots=True)
class ExchangeStats:
    """How the round trips went.

    Attributes:
        num_picks: made.
        round_trips: to all shards.
        seconds: in all.
        slowest: sum over the trips of the slowest shard's time.
        typical: sum over the trips of the median shard's time; far below `slowest`, a straggler.
        waited_for: (W,) how often each shard was the slowest.
    """

    num_picks: int = 0
    round_trips: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    typical: float = 0.0
    waited_for: list[int] = field(default_factory=list)

    @property
    def picks_per_trip(self) -> float:
        """Picks made in one round trip, on average."""
        return self.num_picks / max(1, self.round_trips)

    @property
    def latency_share(self) -> float:
        """Share of the time that no shard's work explains: messages, and the coordinator."""
        return max(0.0, 1 - self.slowest / self.seconds) if self.seconds else 0.0

    def describe(self) -> str:
        """Return one line for a log."""
        line = (
            f"{self.num_picks} picks in {self.round_trips} round trips, "
            f"{self.latency_share:.0%} latency"
        )
        if self.slowest > 1.5 * self.typical and len(self.waited_for) > 2:
            line += f", waiting mostly for worker {int(np.argmax(self.waited_for))}"
        return line


class ExchangeShard:
    """One shard's rows during a selection.

    Args:
        points: (N, D) float32, validated; may be memory-mapped.
        ids: (N,) tile ids.
        capacity: picks there will be in all.
        options: metric, quality and exclusions; with `cosine` the picks of `apply` are normalised
            already, and those of offers are.
        engine: what keeps the bounds; never changes an offer.

    Raises:
        ConfigError: a device or filter that cannot be used here.

    Memory: 46 bytes per row beside the input; on a device see `DeviceBounds`.
    """

    def __init__(
        self,
        points: FloatArray,
        ids: IdArray,
        capacity: int,
        options: Options = DEFAULT,
        engine: EngineChoice = ON_CPU,
    ) -> None:
        if len(ids) == 0:
            raise ValueError(
                "A shard must have rows; got none. Let it answer nothing_to_offer() instead."
            )
        self._ids = ids
        self._order = np.argsort(ids, kind="stable")
        ranks = np.empty(len(ids), np.int64)
        ranks[self._order] = np.arange(len(ids))
        self._bounds = engine.bounds(points, ranks, capacity, options)

    @property
    def num_applied(self) -> int:
        """Picks this shard has been told of."""
        return self._bounds.num_picks

    def apply(self, picks: Sequence[str] | IdArray, vectors: FloatArray) -> None:
        """Record picks made anywhere; those that lie here are taken.

        Args:
            picks: (M,) ids; one that is nowhere (such as an empty one) takes no row.
            vectors: (M, D) float32.
        """
        wanted = np.asarray(picks, dtype=np.str_)
        if len(wanted) == 0:
            return
        places = np.searchsorted(self._ids, wanted, sorter=self._order)
        rows = self._order[np.minimum(places, len(self._ids) - 1)]
        self._bounds.leave_out(rows[self._ids[rows] == wanted])
        self._bounds.add(vectors)

    def offer(self, room: int) -> Offer:
        """Return the best `room` rows after all picks applied; there is one pick at least."""
        started = time.perf_counter()
        best, held, held_row = self._bounds.offer(room)
        return Offer(
            self._ids[best.numbers],
            best.vectors,
            best.keys,
            best.weights,
            held,
            str(self._ids[held_row]),
            time.perf_counter() - started,
        )


def nothing_to_offer() -> Offer:
    """Return the offer of a shard without rows."""
    nothing = np.empty(0, np.float32)
    return Offer(np.empty(0, np.str_), np.empty((0, 0), np.float32), nothing, nothing, -1.0, "", 0)


def room_for(dim: int, id_bytes: int) -> int:
    """Return how many rows one reply of `REPLY_BYTES` holds.

    >>> room_for(128, 40)
    160
    """
    return max(1, REPLY_BYTES // (4 * dim + 8 + id_bytes))


def pick_from(offers: Sequence[Offer], limit: int, *, skip: int = 0) -> Picks:
    """Pick from the offers of all shards while that is certain to be right (merge).

    Args:
        offers: one from every shard that has rows, all after the same picks.
        limit: at most so many picks.
        skip: outliers left out (see `balancer.selection.farthest_point`).

    Cost: O(rows offered * D) per pick.
    """
    ids = np.concatenate([offer.ids for offer in offers])
    vectors = np.concatenate([offer.vectors for offer in offers])
    keys = np.concatenate([offer.keys for offer in offers])
    weights = np.concatenate([offer.weights for offer in offers])
    held = [offer for offer in offers if offer.held_key >= 0]
    ranks = id_ranks(np.concatenate([ids, [offer.held_id for offer in held]]))
    threshold, threshold_rank = np.float32(-1), LAST_RANK
    if held:
        best = min(range(len(held)), key=lambda place: (-held[place].held_key, held[place].held_id))
        threshold = np.float32(held[best].held_key)
        threshold_rank = int(ranks[len(ids) + best])
    squared = np.empty(max(1, limit), np.float32)
    rows = Rows(vectors.copy(), keys, ranks[: len(ids)].copy(), weights, np.arange(len(ids)))
    chosen = pick_offered(rows, Stop(threshold, threshold_rank, limit, skip), squared)
    return Picks(ids[chosen], vectors[chosen], squared[: len(chosen)])


def exchange(
    ask: Callable[[IdArray, FloatArray, int], Sequence[Offer]],
    num_picks: int,
    *,
    dim: int,
    room: int,
    skip: int = 0,
    stats: ExchangeStats | None = None,
) -> Picks:
    """Make `num_picks` picks by round trips to all shards.

    Args:
        ask: sends new picks (ids, vectors) to every shard and returns their offers of `room` rows.
            The shards were told of one pick at least before.
        num_picks: to make now.
        dim: D.
        room: rows per offer; grows when outliers fill it.
        skip: outliers left out.
        stats: filled in.

    Returns:
        The picks; fewer than asked for when the rows end.
    """
    stats = stats if stats is not None else ExchangeStats()
    started = time.perf_counter()
    parts: list[Picks] = []
    news = Picks(np.empty(0, np.str_), np.empty((0, dim), np.float32), np.empty(0, np.float32))
    made = 0
    while made < num_picks:
        answers = ask(news.ids, news.vectors, room)
        offers = [offer for offer in answers if len(offer.ids)]
        if not offers:
            break
        news = pick_from(offers, num_picks - made, skip=skip)
        if len(news.ids) == 0:
            if all(offer.held_key < 0 for offer in offers):
                break
            room *= 2
            continue
        parts.append(news)
        made += len(news.ids)
        seconds = [offer.seconds for offer in answers]
        stats.round_trips += 1
        stats.slowest += max(seconds)
        stats.typical += float(np.median(seconds))
        stats.waited_for += [0] * (len(seconds) - len(stats.waited_for))
        stats.waited_for[int(np.argmax(seconds))] += 1
    stats.num_picks += made
    stats.seconds += time.perf_counter() - started
    if not parts:
        return news
    return Picks(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.keys for part in parts]),
    )
