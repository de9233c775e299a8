"""Whole numbers for shares of cells whose sums along several axes are given: diffusion and moves.

Diffusion rounds cell by cell, one value of the first axis after the other, whose sum is met at
once; what rounding has taken from the values of the other axes so far is paid back by the cells
that follow (error diffusion as in Floyd and Steinberg 1976, with one error per value of each axis).
So at the end a value misses its sum by about a tile, however many cells there are. Moves repair the
rest: one tile goes from a cell to another one that differs in one axis only, which leaves all other
sums as they are. A chain of moves that brings a tile from a value with too many to one with too few
is an augmenting path of a flow, found by breadth-first search; with two axes, no such path means
that nothing better exists (Ford and Fulkerson 1956).
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from balancer.selection.proportional_fitting import Margin
from balancer.selection.quotas import Box
from balancer.types import DoubleArray, IntArray

NEAR = 1e-6
"""A share so near to a whole number is that number."""
START = -2
"""Stands for the cell that gains where a chain begins."""


def diffuse(shares: DoubleArray, limits: IntArray, margins: Sequence[Margin]) -> IntArray | None:
    """Round shares so that the sums of the first axis are met and the others nearly.

    Args:
        shares: (S,) float64, 0 <= shares <= limits.
        limits: (S,) int64.
        margins: two axes or more.

    Returns:
        (S,) int64; each share is rounded down or up, unless its sum along the first axis is too
        far from the target for that. None where the limits are too low for a target.

    Cost: O(S m) for m cells in a value of the first axis.

    >>> rows, columns = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
    >>> margins = [Margin(rows, np.ones(4, np.int64)), Margin(columns, np.array([2, 2]))]
    >>> diffuse(np.full(8, 0.5), np.full(8, 9), margins).tolist()
    [1, 0, 0, 1, 1, 0, 0, 1]
    """
    counts = np.floor(shares + NEAR).astype(np.int64)
    first, others = margins[0], margins[1:]
    starts = np.concatenate([[0], np.cumsum([len(margin.targets) for margin in others])])
    values = np.stack(
        [margin.codes + start for margin, start in zip(others, starts, strict=False)], axis=1
    )
    order = np.argsort(first.codes, kind="stable")
    ends = np.cumsum(np.bincount(first.codes, minlength=len(first.targets)))
    owed = np.zeros(starts[-1])
    given = first.targets - np.rint(first.sums(counts)).astype(np.int64)
    done = _diffuse(shares, limits, counts, (order, ends, given), values, owed)
    return counts if done else None


def settle(
    counts: IntArray, shares: DoubleArray, limits: IntArray, margins: Sequence[Margin]
) -> IntArray:
    """Move tiles between cells until the sums of all axes but the first are met, or no move helps.

    Args:
        counts: (S,) int64, changed in place.
        shares: (S,) float64; moves first keep each count at its share rounded down or up.
        limits: (S,) int64.
        margins: two axes or more; sums of the first stay as they are.

    Cost: O(S) per tile that a sum is missed by, usually less; 40 bytes per cell.

    >>> rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> margins = [Margin(rows, np.array([1, 1])), Margin(columns, np.array([1, 1]))]
    >>> settle(np.array([1, 0, 1, 0]), np.full(4, 0.5), np.full(4, 9), margins).tolist()
    [0, 1, 1, 0]
    """
    floor = np.floor(shares + NEAR).astype(np.int64)
    near = Box(floor, np.minimum(limits, np.ceil(shares - NEAR).astype(np.int64)))
    for box in (near, Box(np.zeros_like(limits), limits)):
        for place in range(1, len(margins)):
            _move_along(counts, box, margins, place)
    return counts


def missed(counts: IntArray, margins: Sequence[Margin]) -> int:
    """Return by how many tiles the sums of all axes are missed, in all.

    >>> missed(np.array([1, 0]), [Margin(np.array([0, 1]), np.array([0, 1]))])
    2
    """
    return sum(int(np.abs(np.rint(m.sums(counts)) - m.targets).sum()) for m in margins)


def _move_along(counts: IntArray, box: Box, margins: Sequence[Margin], place: int) -> None:
    """Repair the sums of one axis by moves between cells that differ in no other."""
    margin = margins[place]
    excess = np.rint(margin.sums(counts)).astype(np.int64) - margin.targets
    if not (excess > 0).any() or not (excess < 0).any():
        return
    groups = np.zeros(len(counts), np.int64)
    for other, axis in enumerate(margins):
        if other != place:
            groups = np.unique(groups * len(axis.targets) + axis.codes, return_inverse=True)[1]
    _move(
        counts, (box.low, box.high), margin.codes, groups.astype(np.int64), excess,
        _by(margin.codes, len(margin.targets)), _by(groups, int(groups.max()) + 1),
    )  # fmt: skip


def _by(codes: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return the cells in the order of their codes, and where each code begins."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=count))])
    return np.argsort(codes, kind="stable"), starts


@numba.njit(cache=True)
def _diffuse(
    shares: DoubleArray,
    limits: IntArray,
    counts: IntArray,
    first: tuple[IntArray, IntArray, IntArray],
    values: IntArray,
    owed: DoubleArray,
) -> bool:
    """Give each value of the first axis what it lacks, a tile at a time to the most owed cell."""
    order, ends, given = first
    start = 0
    for k in range(ends.shape[0]):
        cells = order[start : ends[k]]
        start = ends[k]
        for cell in cells:
            for value in values[cell]:
                owed[value] += shares[cell] - counts[cell]
        step = 1 if given[k] > 0 else -1
        for _ in range(abs(given[k])):
            best, most = -1, -np.inf
            for cell in cells:
                if counts[cell] + step < 0 or counts[cell] + step > limits[cell]:
                    continue
                due = shares[cell] - counts[cell]
                score = step * due
                if score < NEAR:  # already rounded up: only where all others are, too
                    score -= 1e6
                for value in values[cell]:
                    score += step * owed[value]
                if score > most:
                    best, most = cell, score
            if best < 0:
                return False
            counts[best] += step
            for value in values[best]:
                owed[value] -= step
    return True


@numba.njit(cache=True)
def _move(
    counts: IntArray,
    box: tuple[IntArray, IntArray],
    codes: IntArray,
    groups: IntArray,
    excess: IntArray,
    by_value: tuple[IntArray, IntArray],
    by_group: tuple[IntArray, IntArray],
) -> None:
    """Augment along shortest chains of moves until no value with too few can be reached."""
    num_values, num_groups = excess.shape[0], by_group[1].shape[0] - 1
    queue = np.empty(num_values, np.int64)
    while True:
        entered = np.full(num_values, -1, np.int64)  # cell that gains where a value is reached
        left = np.full(num_groups, -1, np.int64)  # cell that gives where a group is reached
        waiting = 0
        for value in range(num_values):
            if excess[value] > 0:
                queue[waiting] = value
                entered[value] = START
                waiting += 1
        value, at = -1, 0
        while at < waiting and value < 0:
            for place in range(by_value[1][queue[at]], by_value[1][queue[at] + 1]):
                gives = by_value[0][place]
                group = groups[gives]
                if left[group] < 0 and counts[gives] > box[0][gives] and value < 0:
                    left[group] = gives
                    cells = by_group[0][by_group[1][group] : by_group[1][group + 1]]
                    waiting, value = _reach(
                        cells, counts, box[1], codes, (excess, entered, queue), waiting
                    )
            at += 1
        if value < 0:
            return
        excess[value] += 1
        while entered[value] != START:
            gains = entered[value]
            gives = left[groups[gains]]
            counts[gains] += 1
            counts[gives] -= 1
            value = codes[gives]
        excess[value] -= 1


@numba.njit(cache=True)
def _reach(
    cells: IntArray,
    counts: IntArray,
    high: IntArray,
    codes: IntArray,
    search: tuple[IntArray, IntArray, IntArray],
    waiting: int,
) -> tuple[int, int]:
    """Enter the values of a group's cells that can gain; return one that has too few, or -1."""
    excess, entered, queue = search
    found = -1
    for cell in cells:
        value = codes[cell]
        if entered[value] == -1 and counts[cell] < high[cell]:
            entered[value] = cell
            queue[waiting] = value
            waiting += 1
            if excess[value] < 0 and found < 0:
                found = value
    return waiting, found
