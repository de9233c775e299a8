"""Weights of tiles and of classes in a loss.

`instance_weights` after Panigrahi and Zhu, section 5.1; `effective_number_weights` after Cui et
al., "Class-balanced loss based on effective number of samples", CVPR 2019, equation 2 and the
normalisation of its section 4.
"""

from __future__ import annotations

import numpy as np

from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray


def instance_weights(matrix: BoolArray, low: BoolArray, k: float) -> FloatArray:
    """Return k for tiles that carry a low-frequency label, and 1 for the others.

    The weight multiplies all C terms of the tile; the loss is then the mean over tiles and classes,
    without renormalisation: L = 1/(B C) sum_i w_i sum_c bce(p_ic, y_ic).

    Args:
        matrix: (N, C) bool.
        low: (C,) bool, see `balancer.imbalance.low_frequency`.
        k: above 0; 1 changes nothing.

    Returns:
        (N,) float32.

    Raises:
        ValueError: k is not above 0, or low has another length.

    >>> instance_weights(np.array([[1, 1], [1, 0]], bool), np.array([False, True]), 2.5).tolist()
    [2.5, 1.0]
    """
    if not (np.isfinite(k) and k > 0):
        raise ValueError(f"k must be a finite number above 0; got {k}.")
    if low.shape != (matrix.shape[1],):
        raise ValueError(
            f"low must have one value per class ({matrix.shape[1]}); got shape {low.shape}."
        )
    return np.where(matrix[:, low].any(axis=1), k, 1.0).astype(np.float32)


def class_frequency_weights(counts: IntArray) -> FloatArray:
    """Return weights in inverse proportion to the counts, normalised to the sum C.

    Raises:
        ValueError: a class has no tile.

    >>> class_frequency_weights(np.array([1, 3])).tolist()
    [1.5, 0.5]
    """
    return _normalized(1.0 / _positive(counts))


def effective_number_weights(counts: IntArray, beta: float) -> FloatArray:
    """Return (1 - beta) / (1 - beta^n_c), normalised to the sum C.

    beta 0 gives ones; as beta goes to 1 the weights become those of `class_frequency_weights`.

    Args:
        counts: (C,) tiles of each class.
        beta: from 0 to below 1; the paper uses .9, .99, .999 and .9999.

    Returns:
        (C,) float32.

    Raises:
        ValueError: a class has no tile, beta is out of range.

    >>> effective_number_weights(np.array([1, 2]), 0.5).tolist()  # 1 and 1 / 1.5
    [1.2000000476837158, 0.800000011920929]
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be from 0 to below 1; got {beta}.")
    return _normalized(1.0 / effective_samples(counts, beta))


def effective_samples(counts: IntArray, beta: float) -> DoubleArray:
    """Return the effective number of samples, (1 - beta^n) / (1 - beta), as (C,) float64.

    Raises:
        ValueError: a class has no tile.

    >>> round(float(effective_samples(np.array([100]), 0.99)[0]), 4)
    63.3968
    """
    numbers = _positive(counts)
    # expm1 keeps 1 - beta^n exact where beta is near 1.
    power = -np.expm1(numbers * np.log(beta)) if beta > 0 else np.ones(len(numbers))
    weights: DoubleArray = power / (1.0 - beta)
    return weights


def _positive(counts: IntArray) -> DoubleArray:
    numbers: DoubleArray = np.asarray(counts, np.float64)
    if (numbers < 1).any() or len(numbers) == 0:
        raise ValueError(
            f"Every class must have a tile to be weighted by its count; got "
            f"{np.asarray(counts).tolist()}. Split so that each class is in the training part."
        )
    return numbers


def _normalized(weights: DoubleArray) -> FloatArray:
    scaled: FloatArray = (weights * (len(weights) / weights.sum())).astype(np.float32)
    return scaled
