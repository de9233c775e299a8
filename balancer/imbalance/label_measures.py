"""How imbalanced labels are, and which occur together.

Charte et al., "Addressing imbalance in multilabel classification", Neurocomputing 163 (2015),
section 3: IRLbl, MeanIR and CVIR.
"""

from __future__ import annotations

import numpy as np

from balancer.types import BoolArray, DoubleArray, IntArray


def imbalance_ratios(counts: IntArray) -> DoubleArray:
    """Return IRLbl of every class: the greatest count over its own; NaN without a tile.

    >>> imbalance_ratios(np.array([8, 4, 1])).tolist()
    [1.0, 2.0, 8.0]
    """
    numbers = np.asarray(counts, np.float64)
    ratios = np.full(len(numbers), np.nan)
    np.divide(numbers.max(initial=0.0), numbers, out=ratios, where=numbers > 0)
    return ratios


def mean_imbalance_ratio(counts: IntArray) -> float:
    """Return MeanIR: the mean of the imbalance ratios over the classes that occur.

    Raises:
        ValueError: no class occurs.

    >>> mean_imbalance_ratio(np.array([8, 4, 2, 0]))
    2.3333333333333335
    """
    return float(_present(counts).mean())


def imbalance_variation(counts: IntArray) -> float:
    """Return CVIR: the standard deviation (ddof 1) of the imbalance ratios over their mean.

    Over the classes that occur; 0 for one class.

    Raises:
        ValueError: no class occurs.

    >>> round(imbalance_variation(np.array([8, 4, 2])), 4)
    0.6547
    """
    ratios = _present(counts)
    return float(ratios.std(ddof=1) / ratios.mean()) if len(ratios) > 1 else 0.0


def cooccurrence(matrix: BoolArray) -> IntArray:
    """Return the (C, C) int64 numbers of tiles that have both labels; counts on the diagonal.

    Cost: O(N C^2).

    >>> cooccurrence(np.array([[1, 1], [1, 0]], dtype=bool)).tolist()
    [[2, 1], [1, 1]]
    """
    # float64 sums of 0 and 1 are exact, and its matrix product is far faster than int64's.
    numbers = matrix.astype(np.float64)
    return np.rint(numbers.T @ numbers).astype(np.int64)


def _present(counts: IntArray) -> DoubleArray:
    ratios = imbalance_ratios(counts)
    ratios = ratios[~np.isnan(ratios)]
    if len(ratios) == 0:
        raise ValueError("Some class must have a tile; none has.")
    return ratios
