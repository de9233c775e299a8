"""Paired tests against a baseline, with a correction for many of them.

The names of `balancer.comparison.intervals` and of `gap_statistics` beside it stand here too:
together they are the statistics of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from balancer.comparison.gap_statistics import (
    EquivalentSize,
    GapClosed,
    equivalent_random_size,
    gap_closed,
)
from balancer.comparison.intervals import Interval, mean_interval, unit_values
from balancer.types import DoubleArray

__all__ = [
    "EquivalentSize",
    "GapClosed",
    "Interval",
    "PairedTest",
    "equivalent_random_size",
    "gap_closed",
    "holm",
    "mean_interval",
    "paired_tests",
    "unit_values",
]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """An arm against the baseline, unit by unit.

    Attributes:
        difference: arm minus baseline; its interval is not adjusted.
        p_value: two-sided, of Student's t for paired values; NaN for fewer than two units.
        adjusted: p_value after Holm's correction over the arms tested together.
    """

    difference: Interval
    p_value: float
    adjusted: float


def paired_tests(arms: Mapping[str, ArrayLike], baseline: ArrayLike) -> dict[str, PairedTest]:
    """Test every arm against the baseline; correct over all of them together.

    Args:
        arms: (n,) unit values by name, in the order of the baseline's. Units where either is NaN (a
            class without a tile) are left out.
        baseline: (n,) unit values.

    Raises:
        ValueError: an arm of another length.

    >>> found = paired_tests({"up": [2.0, 3.1, 4.0], "same": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0])
    >>> found["up"].p_value < 0.01, found["same"].adjusted
    (True, 1.0)
    """
    base = np.asarray(baseline, np.float64)
    differences = {}
    for name, values in arms.items():
        arm = np.asarray(values, np.float64)
        if arm.shape != base.shape or arm.ndim != 1:
            raise ValueError(
                f"Every arm must have the units of the baseline {base.shape}; {name!r} has "
                f"{arm.shape}. Run what is missing."
            )
        differences[name] = arm - base
    p_values = [_p_value(difference) for difference in differences.values()]
    rows = zip(differences.items(), p_values, holm(p_values), strict=True)
    return {
        name: PairedTest(mean_interval(difference), p_value, adjusted)
        for (name, difference), p_value, adjusted in rows
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down rule; NaN stays NaN and is not counted.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    scaled = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in adjusted]


def _p_value(difference: DoubleArray) -> float:
    known = difference[~np.isnan(difference)]
    if len(known) < 2:
        return float("nan")
    deviation = known.std(ddof=1)
    if deviation == 0:
        return 1.0 if known[0] == 0 else 0.0
    statistic = known.mean() / (deviation / np.sqrt(len(known)))
    return float(2 * stats.t.sf(abs(statistic), len(known) - 1))
