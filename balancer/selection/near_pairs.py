"""Rows within a distance of each other, exactly, between two sets of rows.

A matrix product proposes and the canonical distance decides. The product is in float32 and block by
block; a pair is proposed when its inner product is as great as the limit asks for, less the error
that this arithmetic can make, so no pair is lost and the result does not depend on blocks, threads
or build.

Rows are told apart by their rank: their place in the order in which near-duplicates are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.types import FloatArray, IntArray

ROUNDING = float(np.finfo(np.float32).eps)
"""Twice the unit roundoff of float32."""
LEFT_BLOCK, RIGHT_BLOCK = 512, 2048
"""Rows of one matrix product: 4 MiB of inner products."""


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Some rows of a matrix, with their ranks.

    Attributes:
        base: (M, D) float32, C-contiguous.
        index: (n,) int64 rows of `base`.
        ranks: (n,) int64 place of each in the order of the whole archive.
    """

    base: FloatArray
    index: IntArray
    ranks: IntArray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, places: IntArray | slice) -> RankedRows:
        """Return the rows at these places."""
        return RankedRows(self.base, self.index[places], self.ranks[places])


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of rows within a limit; `first` comes before `second` in the order.

    Attributes:
        first: (P,) int64 rank.
        second: (P,) int64 rank.
        squared: (P,) float32 canonical squared distance.
    """

    first: IntArray
    second: IntArray
    squared: FloatArray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, places: IntArray | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> NearPairs:
        """Return the pairs at these places, or under this mask."""
        return NearPairs(self.first[places], self.second[places], self.squared[places])


class TooManyPairsError(ValueError):
    """More near pairs than were allowed for."""


def no_pairs() -> NearPairs:
    """Return no pairs."""
    return NearPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def merge_pairs(parts: Sequence[NearPairs]) -> NearPairs:
    """Join the pairs of several parts; each pair once, by (second, first).

    >>> one = NearPairs(np.array([0, 1]), np.array([4, 2]), np.zeros(2, np.float32))
    >>> merge_pairs([one, one]).second
    array([2, 4])
    """
    if not parts:
        return no_pairs()
    first = np.concatenate([part.first for part in parts])
    second = np.concatenate([part.second for part in parts])
    squared = np.concatenate([part.squared for part in parts])
    order = np.lexsort((first, second))
    first, second, squared = first[order], second[order], squared[order]
    new = np.ones(len(first), np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return NearPairs(first[new], second[new], squared[new])


def near_pairs(
    left: RankedRows, right: RankedRows, limit: float, *, most: int | None = None
) -> NearPairs:
    """Return every pair of a left and a right row within the limit; a row is no pair of itself.

    Args:
        left: rows.
        right: rows; the same ones for the pairs among them, each of which is then found once.
        limit: greatest canonical squared distance of a pair.
        most: how many pairs there may be; any number when None.

    Raises:
        TooManyPairsError: there are more than `most`.

    Cost: len(left) * len(right) * D multiply-adds (half of it among the same rows); 20 bytes per
    pair and one block of products.

    >>> line = np.array([[0.0], [1.0], [1.5]], np.float32)
    >>> rows = RankedRows(line, np.arange(3), np.arange(3))
    >>> found = near_pairs(rows, rows, 0.25)
    >>> found.first, found.second, found.squared
    (array([1]), array([2]), array([0.25], dtype=float32))
    """
    among = left is right
    parts: list[NearPairs] = []
    total = 0
    for start, block in _blocks(left, LEFT_BLOCK):
        points = block.base[block.index]
        for other_start, others in _blocks(right, RIGHT_BLOCK):
            if among and other_start + len(others) <= start:
                continue  # these were the right block when `block` was the left one
            other_points = others.base[others.index]
            products, needed, half = _propose(points, other_points, limit)
            ends = np.cumsum(_count_proposed(products, needed, half))
            total += int(ends[-1])
            if most is not None and total > most:
                raise TooManyPairsError(f"More near pairs than the {most} that may be listed.")
            one = np.empty(ends[-1], np.int64)
            other = np.empty(ends[-1], np.int64)
            squared = np.empty(ends[-1], np.float32)
            _measure_proposed(
                products, needed, half, points, other_points, ends, (one, other), squared
            )
            near = squared <= limit
            near &= (start + one < other_start + other) if among else True
            ranks, other_ranks = block.ranks[one[near]], others.ranks[other[near]]
            parts.append(
                NearPairs(
                    np.minimum(ranks, other_ranks), np.maximum(ranks, other_ranks), squared[near]
                )
            )
    found = merge_pairs(parts)
    return found.take(found.first != found.second)


def earliest_near(
    rows: RankedRows, others: RankedRows, limit: float
) -> tuple[IntArray, FloatArray]:
    """Return for each row the earliest of the other rows before it that lies within the limit.

    Args:
        rows: rows.
        others: rows, ascending by rank.
        limit: greatest canonical squared distance.

    Returns:
        (n,) int64 rank of that row, -1 where there is none, and (n,) float32 squared distances,
        NaN where there is none.

    Cost: len(rows) * len(others) * D multiply-adds at most: a row that has its answer is not
    compared with later blocks.

    >>> line = np.array([[0.0], [1.0], [1.5]], np.float32)
    >>> rows = RankedRows(line, np.arange(3), np.arange(3))
    >>> earliest_near(rows, rows, 0.25)[0]
    array([-1, -1,  1])
    """
    found = np.full(len(rows), -1, np.int64)
    squared = np.full(len(rows), np.nan, np.float32)
    for start, block in _blocks(rows, LEFT_BLOCK):
        open_rows = np.arange(len(block))
        points = block.base[block.index]
        latest = int(block.ranks.max())
        for _, earlier in _blocks(others, RIGHT_BLOCK):
            if not len(open_rows) or earlier.ranks[0] >= latest:
                break
            other_points = earlier.base[earlier.index]
            products, needed, half = _propose(points, other_points, limit)
            hit = np.empty(len(points), np.int64)
            distance = np.empty(len(points), np.float32)
            _first_hit(
                products, needed, half, points, other_points,
                (block.ranks[open_rows], earlier.ranks), limit, hit, distance,
            )  # fmt: skip
            has = hit >= 0
            places = start + open_rows[has]
            found[places] = earlier.ranks[hit[has]]
            squared[places] = distance[has]
            open_rows = open_rows[~has]
            points = np.ascontiguousarray(points[~has])
    return found, squared


def _blocks(rows: RankedRows, size: int) -> Iterator[tuple[int, RankedRows]]:
    for start in range(0, len(rows), size):
        yield start, rows.take(slice(start, start + size))


def _propose(
    points: FloatArray, others: FloatArray, limit: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return products p, and u and v, such that i and j are not near unless p_ij >= u_i + v_j.

    |x - y|^2 <= limit means x.y >= (|x|^2 + |y|^2 - limit) / 2. The product of D terms, the halved
    squares and the comparison make at most D + 8 roundings of values below (|x| + |y|)^2, and the
    canonical distance is itself rounded once.
    """
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    other_squares = np.einsum("ij,ij->i", others, others, dtype=np.float64)
    longest = np.sqrt(squares.max()) + np.sqrt(other_squares.max())
    slack = (points.shape[1] + 8) * ROUNDING * longest**2 + ROUNDING * limit
    needed = (squares / 2).astype(np.float32)
    half = ((other_squares - limit) / 2 - slack).astype(np.float32)
    return points @ others.T, needed, half


@numba.njit(cache=True)
def _count_proposed(products: FloatArray, needed: FloatArray, half: FloatArray) -> IntArray:
    counts = np.zeros(products.shape[0], np.int64)
    for i in range(products.shape[0]):
        count = 0
        for j in range(products.shape[1]):
            count += products[i, j] >= needed[i] + half[j]
        counts[i] = count
    return counts


@numba.njit(cache=True)
def _measure_proposed(  # noqa: PLR0913 - numba compiles plain arrays
    products: FloatArray,
    needed: FloatArray,
    half: FloatArray,
    points: FloatArray,
    others: FloatArray,
    ends: IntArray,
    places: tuple[IntArray, IntArray],
    squared: FloatArray,
) -> None:
    for i in range(products.shape[0]):
        at = ends[i - 1] if i else 0
        if at < ends[i]:
            for j in range(products.shape[1]):
                if products[i, j] >= needed[i] + half[j]:
                    places[0][at] = i
                    places[1][at] = j
                    squared[at] = squared_distance(points[i], others[j])
                    at += 1


@numba.njit(cache=True)
def _first_hit(  # noqa: PLR0913 - numba compiles plain arrays
    products: FloatArray,
    needed: FloatArray,
    half: FloatArray,
    points: FloatArray,
    others: FloatArray,
    ranks: tuple[IntArray, IntArray],
    limit: float,
    hit: IntArray,
    squared: FloatArray,
) -> None:
    for i in range(products.shape[0]):
        hit[i] = -1
        for j in range(products.shape[1]):
            if ranks[1][j] >= ranks[0][i]:
                break
            if products[i, j] >= needed[i] + half[j]:
                distance = squared_distance(points[i], others[j])
                if distance <= limit:
                    hit[i] = j
                    squared[i] = distance
                    break
