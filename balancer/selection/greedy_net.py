"""The greedy net: keep a row unless an earlier kept row is near.

Kept rows are pairwise farther apart than the radius (packing), and every other row has a kept one
within it (covering): the kept rows are a maximal independent set of the graph of near pairs, the
lexicographically first one in the given order. The order alone decides it, not how the pairs were
found.

Rows are decided in batches of growing size. A batch is first compared with the rows kept so far;
pairs are listed only among what is left of it. In a random order that graph is sparse when each
batch is as large as all before it: after the first m of n rows, no undecided row has more than
O(n / m log n) undecided neighbours (Blelloch, Fineman and Shun 2012, "Greedy sequential maximal
independent set and matching are parallel on average", section 3). So a million tiles of the same
ocean cost a million comparisons and not their square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np

from balancer.config_deduplicate import DeduplicateConfig
from balancer.selection.near_blocks import Drops, check_pairs, merge_drops
from balancer.selection.near_pairs import NearPairs
from balancer.types import BoolArray, FloatArray, IntArray

FIRST_BATCH = 2048


class Units(Protocol):
    """The work units of all rows (`balancer.selection.near_blocks`), on one array or on workers."""

    @property
    def num_rows(self) -> int:
        """How many rows there are; their ranks are 0 to that."""

    def near_kept(self, begin: int, end: int, kept: IntArray | None, limit: float) -> list[Drops]:
        """Return `near_kept` of every unit."""

    def near_among(
        self, members: IntArray | None, limit: float, most: int | None
    ) -> list[NearPairs]:
        """Return `near_among` of every unit."""


@dataclass(frozen=True, slots=True)
class Net:
    """What is kept, by rank.

    Attributes:
        kept: (N,) whether.
        by: (N,) int64 rank of the row for which it was dropped: the earliest kept one that is near.
            -1 where the row is kept.
        squared: (N,) float32 squared distance to that row; NaN where the row is kept.
        pairs: all pairs within the floor, where they were asked for.
    """

    kept: BoolArray
    by: IntArray
    squared: FloatArray
    pairs: NearPairs | None = None


def decide(units: Units, config: DeduplicateConfig) -> Net:
    """Decide every row by the configured rule, and list the pairs within the floor if there is one.

    Raises:
        TooManyPairsError: there are more than `config.max_pairs` of them.
    """
    if config.floor is None:
        rule = greedy_net if config.rule == "greedy" else semdedup
        return rule(units, config.limit)
    most = config.max_pairs
    pairs = check_pairs(units.near_among(None, config.floor_limit, most), most)
    of_pairs = net_of_pairs if config.rule == "greedy" else semdedup_of_pairs
    return of_pairs(units.num_rows, pairs, config.limit)


def greedy_net(units: Units, limit: float, *, first_batch: int = FIRST_BATCH) -> Net:
    """Decide every row, batch by batch.

    Args:
        units: the rows.
        limit: greatest canonical squared distance of near-duplicates.
        first_batch: rows in the first batch; each later one is as large as all before it.

    Cost: two steps over all units per batch, log2(N / first_batch) batches; 21 bytes per row here.
    """
    net = _undecided(units.num_rows)
    for begin, end in batches(units.num_rows, first_batch):
        kept = np.flatnonzero(net.kept[:begin])
        if len(kept):
            drops = merge_drops(units.near_kept(begin, end, kept, limit))
            _drop(net, drops.ranks, drops.by, drops.squared)
        left = begin + np.flatnonzero(net.kept[begin:end])
        pairs = check_pairs(units.near_among(left, limit, None), None)
        _apply_pairs(net, pairs)
    return net


def net_of_pairs(num_rows: int, pairs: NearPairs, limit: float) -> Net:
    """Decide every row from the list of all pairs within `limit`, or more.

    Args:
        num_rows: N.
        pairs: each once, in the order of `merge_pairs`.
        limit: greatest squared distance of near-duplicates.

    Cost: O(N + P).

    >>> pairs = NearPairs(np.array([0, 1]), np.array([1, 2]), np.array([0.1, 0.2], np.float32))
    >>> net_of_pairs(3, pairs, 0.2).kept, net_of_pairs(3, pairs, 0.15).kept
    (array([ True, False,  True]), array([ True, False,  True]))
    """
    net = _undecided(num_rows)
    _apply_pairs(net, pairs.take(pairs.squared <= limit))
    return Net(net.kept, net.by, net.squared, pairs)


def semdedup(units: Units, limit: float) -> Net:
    """Drop every row that is near to an earlier row, even to a dropped one.

    The rule published with SemDeDup (Abbas et al. 2023, arXiv 2303.09540, section 3 and their
    code), for comparison: a dropped row need not have a kept one near it. `by` names the earliest
    row that is near, kept or not.
    """
    net = _undecided(units.num_rows)
    drops = merge_drops(units.near_kept(0, units.num_rows, None, limit))
    _drop(net, drops.ranks, drops.by, drops.squared)
    return net


def semdedup_of_pairs(num_rows: int, pairs: NearPairs, limit: float) -> Net:
    """Drop by the rule of `semdedup` from the list of all pairs within `limit`, or more.

    >>> pairs = NearPairs(np.array([0, 1]), np.array([1, 2]), np.array([0.1, 0.2], np.float32))
    >>> semdedup_of_pairs(3, pairs, 0.2).kept
    array([ True, False, False])
    """
    near = pairs.take(pairs.squared <= limit)
    drops = merge_drops([Drops(near.second, near.first, near.squared)])
    net = _undecided(num_rows)
    _drop(net, drops.ranks, drops.by, drops.squared)
    return Net(net.kept, net.by, net.squared, pairs)


def batches(num_rows: int, first_batch: int) -> Iterator[tuple[int, int]]:
    """Yield the first rank of each batch and the one after its last.

    >>> list(batches(10, 2))
    [(0, 2), (2, 4), (4, 8), (8, 10)]
    """
    begin, end = 0, min(first_batch, num_rows)
    while begin < num_rows:
        yield begin, end
        begin, end = end, min(2 * end, num_rows)


def _undecided(num_rows: int) -> Net:
    return Net(
        np.ones(num_rows, np.bool_),
        np.full(num_rows, -1, np.int64),
        np.full(num_rows, np.nan, np.float32),
    )


def _drop(net: Net, ranks: IntArray, by: IntArray, squared: FloatArray) -> None:
    net.kept[ranks] = False
    net.by[ranks] = by
    net.squared[ranks] = squared


def _apply_pairs(net: Net, pairs: NearPairs) -> None:
    _first_independent(net.kept, net.by, net.squared, pairs.first, pairs.second, pairs.squared)


@numba.njit(cache=True)
def _first_independent(
    kept: BoolArray,
    by: IntArray,
    squared: FloatArray,
    first: IntArray,
    second: IntArray,
    distances: FloatArray,
) -> None:
    """Drop each row with a kept earlier neighbour; pairs ascend by (second, first)."""
    for p in range(len(first)):
        if kept[second[p]] and kept[first[p]]:
            kept[second[p]] = False
            by[second[p]] = first[p]
            squared[second[p]] = distances[p]
