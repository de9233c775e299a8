"""How many near pairs are lost when cells are compared without their borders, from a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.selection.near_pairs import RankedRows, near_pairs
from balancer.types import BoolArray, IntArray

MISS_SAMPLE = 1000
"""Rows whose near pairs are counted."""


@dataclass(frozen=True, slots=True)
class Misses:
    """Near pairs of some sampled rows with all rows.

    Attributes:
        num_pairs: all of them.
        num_missed: those whose rows lie in different cells.
    """

    num_pairs: int
    num_missed: int

    @property
    def rate(self) -> float:
        """Share of the pairs that is missed; 0 where there are no pairs."""
        return self.num_missed / self.num_pairs if self.num_pairs else 0.0


def count_misses(
    sample: RankedRows,
    sample_home: IntArray,
    rows: RankedRows,
    home: IntArray,
    limit: float,
) -> Misses:
    """Count the near pairs of sampled rows with the rows of one shard.

    A pair of two sampled rows counts once for each of them, so that counts of shards add up.

    Args:
        sample: sampled rows of the whole archive.
        sample_home: (S,) their cells.
        rows: of the shard.
        home: (N,) their cells.
        limit: greatest squared distance of a pair.

    Cost: S * N * D multiply-adds.

    >>> line = np.array([[0.0], [0.1], [5.0]], np.float32)
    >>> rows = RankedRows(line, np.arange(3), np.arange(3))
    >>> count_misses(rows.take(slice(0, 1)), np.array([0]), rows, np.array([0, 1, 1]), 0.02)
    Misses(num_pairs=1, num_missed=1)
    """
    pairs = near_pairs(sample, rows.take(slice(None)), limit)
    num_pairs = num_missed = 0
    for one, other in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        sampled, sample_cell = _look_up(one, sample.ranks, sample_home)
        present, cell = _look_up(other, rows.ranks, home)
        both = sampled & present
        num_pairs += int(both.sum())
        num_missed += int((both & (sample_cell != cell)).sum())
    return Misses(num_pairs, num_missed)


def merge_misses(parts: Sequence[Misses]) -> Misses:
    """Add up the counts of several shards."""
    return Misses(sum(p.num_pairs for p in parts), sum(p.num_missed for p in parts))


def _look_up(wanted: IntArray, ranks: IntArray, values: IntArray) -> tuple[BoolArray, IntArray]:
    """Return whether each wanted rank is among `ranks`, and its value (of another if not)."""
    order = np.argsort(ranks)
    places = np.minimum(np.searchsorted(ranks, wanted, sorter=order), len(ranks) - 1)
    rows = order[places]
    return ranks[rows] == wanted, values[rows]
