"""What quotas could not reach, in sentences: how much is missing, and which limit binds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.selection.proportional_fitting import Margin
from balancer.types import DoubleArray, IntArray

MOST_LINES = 10
MOST_NAMES = 3
CLUSTERS = "cluster"


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the quotas.

    Attributes:
        name: the column, or `CLUSTERS`.
        values: (V,) text of its values.
        sizes: (V,) int64 rows of each.
        wanted: (V,) float64 share of the budget by the rule alone, whatever rows there are.
        margin: what was aimed at, with each value's limits kept.
    """

    name: str
    values: Sequence[str]
    sizes: IntArray
    wanted: DoubleArray
    margin: Margin


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a plan: the budget, the most per cluster, how often a row may count."""

    budget: int
    cap: int | None
    repeats: int


def describe_shortfalls(
    counts: IntArray, cells: IntArray, axes: Sequence[Axis], limits: Limits
) -> tuple[str, ...]:
    """Return one sentence per value that falls short of its share, most missing first.

    Args:
        counts: (S,) int64 what each cell gives.
        cells: (S,) int64 most that each cell can give.
        axes: the clusters first, then the columns.
        limits: of the plan.

    Returns:
        Sentences; none when every share is reached. Clusters are summed up in one.

    >>> margin = Margin(np.array([0, 1]), np.array([40, 160]))
    >>> axis = Axis("biome", ["ice", "sand"], np.array([40, 500]), np.array([100, 100.0]), margin)
    >>> describe_shortfalls(
    ...     np.array([40, 160]), np.array([40, 500]), [axis], Limits(200, None, 1)
    ... )
    ('biome=ice: 40 of 100 reached, because only 40 tiles exist.',)
    """
    lines = []
    reached = int(counts.sum())
    if reached < limits.budget:
        why = (
            f"no cluster may give more than the cap of {limits.cap}"
            if limits.cap is not None
            else f"only {int(axes[0].sizes.sum())} tiles exist{_often(limits.repeats)}"
        )
        lines.append(f"budget: {reached} of {limits.budget} reached, because {why}.")
    for axis in axes:
        if axis.name == CLUSTERS:
            lines += _clusters(axis, counts, limits)
        else:
            lines += _values(axis, counts, cells, axes, limits)
    return tuple(lines)


def _values(
    axis: Axis, counts: IntArray, cells: IntArray, axes: Sequence[Axis], limits: Limits
) -> list[str]:
    found = axis.margin.sums(counts)
    missing = np.floor(axis.wanted + 1e-9) - found
    short = np.flatnonzero(missing > 0)
    short = short[np.lexsort((short, -missing[short]))]
    lines = []
    for value in short[:MOST_LINES].tolist():
        most = int(axis.sizes[value]) * limits.repeats
        why = (
            _rows_exist(int(axis.sizes[value]), limits.repeats)
            if found[value] >= most
            else _binding(value, axis, counts, cells, axes)
        )
        lines.append(
            f"{axis.name}={axis.values[value]}: {found[value]:.0f} of "
            f"{axis.wanted[value]:.0f} reached, because {why}."
        )
    if len(short) > MOST_LINES:
        rest = short[MOST_LINES:]
        lines.append(f"{axis.name}: {len(rest)} more values lack {missing[rest].sum():.0f} in all.")
    return lines


def _binding(
    value: int, axis: Axis, counts: IntArray, cells: IntArray, axes: Sequence[Axis]
) -> str:
    """Say which shares of other axes keep the value's remaining rows out."""
    left = (axis.margin.codes == value) & (counts < cells)
    reasons = []
    for other in axes:
        if other.name == axis.name:
            continue
        values = np.unique(other.margin.codes[left])
        full = values[other.margin.sums(counts)[values] >= other.margin.targets[values]]
        if len(full) == 0:
            continue
        if other.name == CLUSTERS:
            reasons.append(
                "1 cluster, which has its share"
                if len(full) == 1
                else f"{len(full)} clusters, which have their shares"
            )
            continue
        names = ", ".join(f"{other.name}={other.values[v]}" for v in full[:MOST_NAMES].tolist())
        more = f" and {len(full) - MOST_NAMES} more" if len(full) > MOST_NAMES else ""
        have = "has its share" if len(full) == 1 else "have their shares"
        reasons.append(f"{names}{more}, which {have}")
    rest = int((cells - counts)[left].sum())
    if not reasons:
        return f"its other {rest} tiles do not fit whole numbers on all axes"
    return f"its other {rest} tiles lie in " + ", and in ".join(reasons)


def _clusters(axis: Axis, counts: IntArray, limits: Limits) -> list[str]:
    found = axis.margin.sums(counts)
    missing = np.floor(axis.wanted + 1e-9) - found
    short = missing > 0
    if not short.any():
        return []
    most = axis.sizes * limits.repeats
    empty = short & (found >= most)
    capped = short & ~empty & (found >= (limits.cap if limits.cap is not None else np.inf))
    other = short & ~empty & ~capped
    lines = []
    for which, why in (
        (empty, "have no more tiles" + _often(limits.repeats)),
        (capped, f"are at the cap of {limits.cap}"),
        (other, "had to leave room for the other quotas"),
    ):
        if which.any():
            lines.append(
                f"clusters: {int(which.sum())} of {len(found)} lack {missing[which].sum():.0f} of "
                f"their share, because they {why}."
            )
    return lines


def _rows_exist(size: int, repeats: int) -> str:
    if size == 0:
        return "no tile has it"
    return f"only {size} {'tile exists' if size == 1 else 'tiles exist'}{_often(repeats)}"


def _often(repeats: int) -> str:
    return f", each counted at most {repeats} times" if repeats > 1 else ""
