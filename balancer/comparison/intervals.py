"""Means with intervals over what was drawn anew: pools where there are several, else seeds.

Seeds of one pool share its tiles, so they are averaged first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from balancer.comparison.recipe_study import half_width
from balancer.types import DoubleArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval over `num_units` units; NaN ends for fewer than two."""

    mean: float
    low: float
    high: float
    num_units: int


def unit_values(values: ArrayLike) -> DoubleArray:
    """Return the values of the units of a (P, S) array of pools by seeds.

    The (P,) means over seeds of several pools; the (S,) values of one pool.

    Raises:
        ValueError: not a matrix with rows and columns.

    >>> unit_values([[1.0, 3.0], [5.0, 5.0]]).tolist(), unit_values([[1.0, 3.0]]).tolist()
    ([2.0, 5.0], [1.0, 3.0])
    """
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"values must be a matrix of pools by seeds; got shape {matrix.shape}.")
    units: DoubleArray = matrix.mean(axis=1) if len(matrix) > 1 else matrix[0]
    return units


def mean_interval(values: ArrayLike) -> Interval:
    """Return the mean of unit values and its 95 % interval by Student's t; NaN values are left out.

    >>> found = mean_interval([1.0, 3.0])
    >>> found.mean, round(found.high - found.mean, 2), found.num_units
    (2.0, 12.71, 2)
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean, half = float(known.mean()), half_width(known)
    return Interval(mean, mean - half, mean + half, len(known))
