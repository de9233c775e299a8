"""Which classes count as low-frequency."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from balancer.imbalance.measures import rare_classes
from balancer.types import BoolArray, IntArray

LowFrequencyRule = Literal["percentile_25", "tenth_of_max"]


def low_frequency(counts: IntArray, rule: LowFrequencyRule = "percentile_25") -> BoolArray:
    """Return which classes are low-frequency. Give the counts of the training part.

    `percentile_25`: at or under the 25th percentile of the counts, linear interpolation
    (Panigrahi and Zhu, section 4). With 17 classes that is the fifth smallest count itself, hence
    at or under. `tenth_of_max`: under a tenth of the greatest count, as in the same authors' code
    for ADE20K.

    Args:
        counts: (C,) tiles of each class.
        rule: which of the two.

    Returns:
        (C,) bool.

    Raises:
        ValueError: an unknown rule, no class.

    >>> low_frequency(np.array([100, 8, 30, 9, 10])).tolist()
    [False, True, False, True, False]
    >>> low_frequency(np.array([100, 8, 30, 9, 10]), "tenth_of_max").tolist()
    [False, True, False, True, False]
    """
    if len(counts) == 0:
        raise ValueError("There must be at least one class; got none.")
    if rule == "percentile_25":
        low = np.zeros(len(counts), np.bool_)
        low[rare_classes(counts, 25)] = True
        return low
    if rule == "tenth_of_max":
        # In whole numbers: a tenth has no exact binary fraction.
        return 10 * np.asarray(counts) < np.max(counts)
    raise ValueError(f"rule must be one of {', '.join(get_args(LowFrequencyRule))}; got {rule!r}.")
