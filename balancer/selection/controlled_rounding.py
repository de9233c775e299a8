"""Whole numbers near given shares that meet sums along several axes: controlled rounding.

First every share is rounded down or up such that all sums are met (Cox 1987), and where that has no
solution, cells may move further: both by `balancer.selection.margin_moves`, without a programme.
What is then still missed goes to a linear programme: the sums contradict each other, or (three and
more axes) meeting them takes more than moves along one axis. Sums are missed at a convex cost: a
group that is already far from its target counts more. With two axes that is a flow in a network, so
a vertex of the programme is whole and exact; with more axes its few fractions are rounded by an
integer programme of a fixed number of nodes, and where that misses a sum by a tile or two, one of
all cells looks for whole numbers that meet them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from balancer.selection.margin_moves import NEAR, diffuse, missed, settle
from balancer.selection.proportional_fitting import Margin
from balancer.selection.quotas import Box
from balancer.types import DoubleArray, IntArray

SEGMENTS = 4
"""Pieces of the convex cost of missing a target."""
MOST_NODES = 200
"""Of the branch and bound for three and more axes: fixed, so that the result does not depend on
the machine's speed."""


MOST_CELLS = 20_000
"""Above, three and more axes may be missed by a tile where whole numbers without a miss exist."""


@dataclass(frozen=True, slots=True)
class Programme:
    """Variables in blocks: columns of the sums' matrix, costs, upper limits."""

    matrix: sparse.csr_array
    costs: DoubleArray
    upper: DoubleArray


def round_to_margins(
    shares: DoubleArray, limits: IntArray, margins: Sequence[Margin], first: Box
) -> IntArray:
    """Round shares to whole numbers that meet all sums, or come as near as they can.

    Args:
        shares: (S,) float64, 0 <= shares <= limits.
        limits: (S,) int64.
        margins: two axes or more; their targets add up to the same total, which is always met.
        first: what the sums of the first axis must stay within in any case.

    Returns:
        (S,) int64.

    Raises:
        ValueError: no solution within `MOST_NODES` nodes (three and more axes).

    Cost: O(S) and a few moves where the sums can be met; else a linear programme of all cells.

    >>> rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> margins = [Margin(rows, np.array([1, 1])), Margin(columns, np.array([1, 1]))]
    >>> box = Box(np.zeros(2, np.int64), np.full(2, 9))
    >>> round_to_margins(np.array([0.6, 0.4, 0.4, 0.6]), np.full(4, 9), margins, box).tolist()
    [1, 0, 0, 1]
    """
    counts = diffuse(shares, limits, margins)
    if counts is not None:
        counts = settle(counts, shares, limits, margins)
        if missed(counts, margins) == 0:
            return counts
    base = np.floor(shares + NEAR).astype(np.int64)
    fraction = np.clip(shares - base, 0.0, 1.0)
    found = settle(_round_widely(base, fraction, limits, margins, first), shares, limits, margins)
    if len(margins) > 2 and len(base) <= MOST_CELLS and missed(found, margins):
        exact = _meet_exactly(shares, limits, margins)
        return found if exact is None else exact
    return found


def _meet_exactly(
    shares: DoubleArray, limits: IntArray, margins: Sequence[Margin]
) -> IntArray | None:
    """Return whole numbers that meet all sums, if the branch and bound finds any."""
    count = len(shares)
    programme = Programme(
        _sums_matrix(margins, np.arange(count)),
        np.where(shares > 0, -np.minimum(1.0, shares), 1.0),
        limits.astype(np.float64),
    )
    sums = np.concatenate([margin.targets for margin in margins]).astype(np.float64)
    found = _programme(programme, sums, np.zeros(count), programme.upper, whole=count)
    return None if found is None else np.asarray(np.rint(found), dtype=np.int64)


def _round_widely(
    base: IntArray,
    fraction: DoubleArray,
    limits: IntArray,
    margins: Sequence[Margin],
    first: Box,
) -> IntArray:
    count = len(base)
    each = _sums_matrix(margins, np.arange(count))
    total = sparse.csr_array(np.ones((1, count)))
    cells = sparse.vstack([each, total])
    groups = each.shape[0]
    targets = np.concatenate([margin.targets for margin in margins])
    # Missing a target by one costs more than any chain of changed cells could save.
    price = 8.0 * (groups + 1)
    width = np.maximum(1, -(-targets // SEGMENTS))
    short, over = _room(targets, width, margins, first)
    miss = sparse.vstack([sparse.eye_array(groups), sparse.csr_array((1, groups))])
    steps = price * np.repeat(np.arange(1, SEGMENTS + 1), groups)
    programme = Programme(
        sparse.hstack([cells, cells, -cells, *[miss] * SEGMENTS, *[-miss] * SEGMENTS]).tocsr(),
        np.concatenate([1 - 2 * fraction, np.full(2 * count, 2.0), steps, steps]),
        np.concatenate(
            [np.minimum(1, limits - base), np.maximum(0, limits - base - 1), base, short, over]
        ).astype(np.float64),
    )
    sums = np.append(targets, margins[0].targets.sum()) - cells @ base
    found = _solve(programme, sums, whole=3 * count)
    if found is None:
        raise ValueError(
            f"No whole numbers near the quotas of {len(margins) - 1} columns were found within "
            f"{MOST_NODES} nodes. Name fewer columns in selection.quotas.axes."
        )
    return base + found[:count] + found[count : 2 * count] - found[2 * count : 3 * count]


def _room(
    targets: IntArray, width: IntArray, margins: Sequence[Margin], first: Box
) -> tuple[IntArray, IntArray]:
    """Return how far each piece lets a group stay short of its target, or exceed it."""
    total = int(margins[0].targets.sum())
    below, above = targets.copy(), np.full(len(targets), total)
    below[: len(first.low)] -= first.low
    above[: len(first.high)] = first.high - targets[: len(first.high)]
    pieces = []
    for room in (below, above):
        parts = [np.clip(room - place * width, 0, width) for place in range(SEGMENTS - 1)]
        parts.append(np.maximum(0, room - (SEGMENTS - 1) * width))
        pieces.append(np.concatenate(parts))
    return pieces[0], pieces[1]


def _sums_matrix(margins: Sequence[Margin], cells: IntArray) -> sparse.csr_array:
    """Return the (groups, cells) matrix whose product with counts is the sums of all axes."""
    columns = np.arange(len(cells))
    ones = np.ones(len(cells))
    return sparse.vstack(
        [
            sparse.csr_array(
                (ones, (margin.codes[cells], columns)), shape=(len(margin.targets), len(cells))
            )
            for margin in margins
        ]
    ).tocsr()


def _solve(programme: Programme, sums: DoubleArray, *, whole: int) -> IntArray | None:
    """Return the first `whole` variables of a cheap solution, as whole numbers; None without one.

    The linear programme comes first. Of its vertex at most as many variables as there are sums are
    not whole (with two axes none is): those are rounded down or up by an integer programme.
    """
    low, high = np.zeros(len(programme.costs)), programme.upper.copy()
    result = _programme(programme, sums, low, high, whole=0)
    if result is None:
        return None
    cells = result[:whole]
    if np.abs(cells - np.rint(cells)).max(initial=0.0) > NEAR:
        low[:whole] = np.floor(cells + NEAR)
        high[:whole] = np.ceil(cells - NEAR)
        result = _programme(programme, sums, low, high, whole=whole)
        if result is None:
            return None
    return np.asarray(np.rint(result[:whole]), dtype=np.int64)


def _programme(
    programme: Programme, sums: DoubleArray, low: DoubleArray, high: DoubleArray, *, whole: int
) -> DoubleArray | None:
    integral = np.zeros(len(programme.costs))
    integral[:whole] = low[:whole] < high[:whole]
    result = milp(
        programme.costs,
        integrality=integral,
        bounds=Bounds(low, high),
        constraints=LinearConstraint(programme.matrix, sums, sums),
        options={"node_limit": MOST_NODES},
    )
    found: DoubleArray | None = result.x
    return found
