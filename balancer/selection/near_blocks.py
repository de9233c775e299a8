"""Blocks of rows that are compared with each other, and the two local steps on them.

A bucket holds the rows at home in some cells and their visitors. A cell too big for one bucket is
dealt to several, and a work unit is a bucket by itself or two buckets that share a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from balancer.selection.near_pairs import (
    NearPairs,
    RankedRows,
    TooManyPairsError,
    earliest_near,
    merge_pairs,
    near_pairs,
)
from balancer.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows of some cells, ascending by (cell, rank).

    Attributes:
        base: (M, D) float32 matrix that the rows lie in.
        index: (n,) int64 rows of `base`.
        ranks: (n,) int64.
        cells: (n,) int64 cell in which the row is compared.
        home: (n,) whether the cell is its own; else it visits.
    """

    base: FloatArray
    index: IntArray
    ranks: IntArray
    cells: IntArray
    home: BoolArray


@dataclass(frozen=True, slots=True)
class Drops:
    """Rows that are near to an earlier one.

    Attributes:
        ranks: (n,) int64 the rows.
        by: (n,) int64 rank of the earliest such row.
        squared: (n,) float32 squared distance to it.
    """

    ranks: IntArray
    by: IntArray
    squared: FloatArray


@dataclass(frozen=True, slots=True)
class Plan:
    """How cells are dealt to buckets: cell k to `parts[k]` buckets from number `first[k]` on."""

    first: IntArray
    parts: IntArray
    num_buckets: int

    def bucket_of(self, cells: IntArray, ranks: IntArray) -> IntArray:
        """Return the bucket of each row; a split cell's rows are dealt by rank."""
        return self.first[cells] + ranks % self.parts[cells]

    def units(self) -> list[tuple[int, int | None]]:
        """Return the work units: each bucket, then each two of one cell."""
        found: list[tuple[int, int | None]] = [(bucket, None) for bucket in range(self.num_buckets)]
        for first, parts in zip(self.first.tolist(), self.parts.tolist(), strict=True):
            found += [(first + i, first + j) for i in range(parts) for j in range(i + 1, parts)]
        return found


def plan_buckets(sizes: IntArray, most_rows: int) -> Plan:
    """Deal cells to buckets of about `most_rows` rows at most, in their order.

    Args:
        sizes: (K,) rows of each cell, visitors included.
        most_rows: of a bucket; a split cell's parts exceed it a little by chance.

    >>> plan = plan_buckets(np.array([3, 4, 25, 2]), 10)
    >>> plan.first, plan.parts, plan.num_buckets
    (array([0, 0, 1, 4]), array([1, 1, 3, 1]), 5)
    """
    first = np.zeros(len(sizes), np.int64)
    parts = np.maximum(1, -(-sizes // most_rows))
    bucket, filled = 0, 0
    for cell, size in enumerate(sizes.tolist()):
        alone = parts[cell] > 1
        if filled and (alone or filled + size > most_rows):
            bucket, filled = bucket + 1, 0
        first[cell] = bucket
        if alone:
            bucket += int(parts[cell])
        else:
            filled += size
    return Plan(first, parts, bucket + (1 if filled or bucket == 0 else 0))


def make_bucket(
    base: FloatArray, index: IntArray, ranks: IntArray, cells: IntArray, home: BoolArray
) -> Bucket:
    """Return the rows, given in any order, as a bucket."""
    order = np.lexsort((ranks, cells))
    return Bucket(base, index[order], ranks[order], cells[order], home[order])


def near_kept(
    unit: Sequence[Bucket], begin: int, end: int, kept: IntArray | None, limit: float
) -> Drops:
    """Return the rows of a batch that are near to an earlier row of this unit.

    Args:
        unit: one bucket, or two of one cell.
        begin: first rank of the batch.
        end: rank after its last.
        kept: (k,) ascending ranks to compare with; every row when None.
        limit: greatest canonical squared distance of near-duplicates.
    """
    parts: list[Drops] = []

    def compare(rows: RankedRows, others: RankedRows) -> None:
        batch = rows.take(np.flatnonzero((rows.ranks >= begin) & (rows.ranks < end)))
        net = others if kept is None else others.take(np.flatnonzero(_among(others.ranks, kept)))
        if len(batch) and len(net):
            by, squared = earliest_near(batch, net, limit)
            hit = by >= 0
            parts.append(Drops(batch.ranks[hit], by[hit], squared[hit]))

    for left, right in _sides(unit):
        compare(left, right)
        if left is not right:
            compare(right, left)
    return merge_drops(parts)


def near_among(
    unit: Sequence[Bucket], members: IntArray | None, limit: float, most: int | None = None
) -> NearPairs:
    """Return all near pairs of this unit among some rows.

    Args:
        unit: one bucket, or two of one cell.
        members: (m,) ascending ranks; every row when None.
        limit: greatest canonical squared distance of a pair.
        most: how many pairs there may be.

    Raises:
        TooManyPairsError: there are more than `most`.
    """
    parts: list[NearPairs] = []
    for left, right in _sides(unit):
        one = left if members is None else left.take(np.flatnonzero(_among(left.ranks, members)))
        other = (
            one
            if right is left
            else right
            if members is None
            else right.take(np.flatnonzero(_among(right.ranks, members)))
        )
        if len(one) and len(other):
            left_over = None if most is None else most - sum(map(len, parts))
            parts.append(near_pairs(one, other, limit, most=left_over))
    return check_pairs(parts, most)


def merge_drops(parts: Sequence[Drops]) -> Drops:
    """Join drops; each row once, by the earliest row.

    >>> one = Drops(np.array([4]), np.array([2]), np.ones(1, np.float32))
    >>> other = Drops(np.array([4, 3]), np.array([1, 0]), np.zeros(2, np.float32))
    >>> merge_drops([one, other]).by
    array([0, 1])
    """
    if not parts:
        none = np.empty(0, np.int64)
        return Drops(none, none, np.empty(0, np.float32))
    ranks = np.concatenate([part.ranks for part in parts])
    by = np.concatenate([part.by for part in parts])
    squared = np.concatenate([part.squared for part in parts])
    order = np.lexsort((by, ranks))
    ranks, by, squared = ranks[order], by[order], squared[order]
    new = np.ones(len(ranks), np.bool_)
    new[1:] = ranks[1:] != ranks[:-1]
    return Drops(ranks[new], by[new], squared[new])


def check_pairs(parts: Sequence[NearPairs], most: int | None) -> NearPairs:
    """Merge the pairs of all units.

    Raises:
        TooManyPairsError: there are more than `most`.
    """
    if most is not None and sum(map(len, parts)) > most:
        raise TooManyPairsError(f"More near pairs than the {most} that may be listed.")
    return merge_pairs(parts)


def _sides(unit: Sequence[Bucket]) -> Iterator[tuple[RankedRows, RankedRows]]:
    """Yield what is compared: rows at home with each other and with visitors, cell by cell."""
    if len(unit) == 1:
        for home, visiting in _by_cell(unit[0]).values():
            yield home, home
            yield home, visiting
        return
    one, other = (_by_cell(bucket) for bucket in unit)
    for cell in one.keys() & other.keys():
        yield one[cell][0], other[cell][0]
        yield one[cell][0], other[cell][1]
        yield other[cell][0], one[cell][1]


def _by_cell(bucket: Bucket) -> dict[int, tuple[RankedRows, RankedRows]]:
    numbers, starts = np.unique(bucket.cells, return_index=True)
    ends = np.append(starts[1:], len(bucket.cells))
    found = {}
    for cell, start, end in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True):
        rows = RankedRows(bucket.base, bucket.index[start:end], bucket.ranks[start:end])
        home = bucket.home[start:end]
        found[cell] = (rows.take(np.flatnonzero(home)), rows.take(np.flatnonzero(~home)))
    return found


def _among(ranks: IntArray, members: IntArray) -> BoolArray:
    """Return which ranks are in an ascending array of ranks."""
    if len(members) == 0:
        return np.zeros(len(ranks), np.bool_)
    places = np.minimum(np.searchsorted(members, ranks), len(members) - 1)
    found: BoolArray = members[places] == ranks
    return found
