"""Resampling of tiles with many labels: filling to a target, ML-ROS and LP-ROS.

A tile that is added for one class brings its other labels too, so the order in which classes are
filled decides how many tiles are needed. The sampling script of Panigrahi and Zhu is not public;
filling in alphabetical order comes within 0.7 % of the size that their notebook prints, and is the
closest rule known.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from balancer.imbalance.label_measures import imbalance_ratios, mean_imbalance_ratio
from balancer.types import BoolArray, DoubleArray, IntArray

FillOrder = Literal["rarest_first", "most_frequent_first", "first_appearance", "alphabetical"]


def class_order(
    matrix: BoolArray, order: FillOrder, classes: tuple[str, ...] | None = None
) -> IntArray:
    """Return the classes in the order in which they are filled.

    Args:
        matrix: (N, C) bool.
        order: `rarest_first` and `most_frequent_first` by the counts in `matrix`;
            `first_appearance` by the first row that has the class; `alphabetical` by `classes`.
        classes: (C,) names; when absent, classes are taken to be sorted already.

    Returns:
        (C,) int64 class numbers; ties by number.

    Raises:
        ValueError: an unknown order.

    >>> matrix = np.array([[0, 1, 1], [0, 1, 0], [1, 1, 0]], dtype=bool)
    >>> class_order(matrix, "rarest_first"), class_order(matrix, "first_appearance")
    (array([0, 2, 1]), array([1, 2, 0]))
    """
    counts = matrix.sum(axis=0, dtype=np.int64)
    keys: IntArray
    if order == "rarest_first":
        keys = counts
    elif order == "most_frequent_first":
        keys = -counts
    elif order == "first_appearance":
        keys = np.where(counts > 0, matrix.argmax(axis=0), len(matrix))
    elif order == "alphabetical":
        names = np.arange(matrix.shape[1]) if classes is None else np.array(classes)
        return np.argsort(names, kind="stable").astype(np.int64)
    else:
        raise ValueError(f"order must be one of {', '.join(get_args(FillOrder))}; got {order!r}.")
    return np.argsort(keys, kind="stable").astype(np.int64)


def fill_under(
    matrix: BoolArray, target: int, order: IntArray, rng: np.random.Generator
) -> IntArray:
    """Choose a subset in which every class has `target` tiles, or all it has.

    Classes are walked in order with running counts over the chosen tiles: tiles of the class that
    are not chosen yet are drawn until its count reaches the target.

    Args:
        matrix: (N, C) bool.
        target: tiles per class.
        order: (C,) class numbers, see `class_order`.
        rng: decides which tiles.

    Returns:
        int64 distinct row numbers, ascending; every class has at least min(target, its tiles).

    Raises:
        ValueError: a target below 1, an order that is no permutation of the classes.

    Cost: O(N C).

    >>> matrix = np.array([[1, 1], [1, 0], [1, 0], [0, 1]], dtype=bool)
    >>> fill_under(matrix, 1, np.array([1, 0]), np.random.default_rng(0)).tolist()
    [1, 3]
    """
    _check(matrix, target, order)
    chosen = np.zeros(len(matrix), np.bool_)
    counts = np.zeros(matrix.shape[1], np.int64)
    for number in order:
        missing = target - counts[number]
        unseen = np.flatnonzero(matrix[:, number] & ~chosen)
        if missing <= 0 or len(unseen) == 0:
            continue
        drawn = rng.choice(unseen, min(missing, len(unseen)), replace=False)
        chosen[drawn] = True
        counts += matrix[drawn].sum(axis=0)
    return np.flatnonzero(chosen).astype(np.int64)


def fill_over(
    matrix: BoolArray, target: int, order: IntArray, rng: np.random.Generator
) -> IntArray:
    """Keep every tile, and repeat tiles until every class that occurs has `target`.

    Classes are walked in order with running counts: tiles of the class are drawn with replacement
    until its count reaches the target.

    Args:
        matrix: (N, C) bool.
        target: tiles per class.
        order: (C,) class numbers, see `class_order`.
        rng: decides which tiles repeat.

    Returns:
        int64 row numbers: 0 to N - 1, then the repeats class by class.

    Raises:
        ValueError: a target below 1, an order that is no permutation of the classes.

    Cost: O(N C + rows returned).

    >>> matrix = np.array([[1, 0], [1, 0], [1, 1]], dtype=bool)
    >>> fill_over(matrix, 3, np.array([1, 0]), np.random.default_rng(0)).tolist()
    [0, 1, 2, 2, 2]
    """
    _check(matrix, target, order)
    counts = matrix.sum(axis=0, dtype=np.int64)
    parts = [np.arange(len(matrix))]
    for number in order:
        members = np.flatnonzero(matrix[:, number])
        missing = target - counts[number]
        if missing <= 0 or len(members) == 0:
            continue
        drawn = rng.choice(members, missing, replace=True)
        counts += matrix[drawn].sum(axis=0)
        parts.append(drawn)
    return np.concatenate(parts).astype(np.int64)


def ml_ros(matrix: BoolArray, growth: float, rng: np.random.Generator) -> IntArray:
    """Repeat tiles that carry a minority label until the set has grown by a share (ML-ROS).

    Charte et al., "Addressing imbalance in multilabel classification: Measures and random
    resampling algorithms", Neurocomputing 163 (2015): labels whose imbalance ratio is above the
    mean ratio of the set are minority labels; in turn, one random tile of each is repeated; a label
    whose ratio has come down to that mean drops out. The mean is that of the given set throughout.
    Ratios are updated before every draw.

    Args:
        matrix: (N, C) bool.
        growth: share of N to add at most; fewer are added when no minority label is left.
        rng: decides which tiles repeat.

    Returns:
        int64 row numbers: 0 to N - 1, then the repeats in order.

    Raises:
        ValueError: growth is negative or not finite, no tile has a label.

    Cost: O(growth N C).

    >>> matrix = np.array([[1, 0, 0]] * 8 + [[0, 1, 0]] * 8 + [[0, 0, 1]], dtype=bool)
    >>> ml_ros(matrix, 0.2, np.random.default_rng(0))[17:].tolist()
    [16, 16]
    """
    room = _room(matrix, growth)
    counts = matrix.sum(axis=0, dtype=np.int64)
    mean = mean_imbalance_ratio(counts)
    bags = [(c, np.flatnonzero(matrix[:, c])) for c in np.flatnonzero(_ratios(counts) > mean)]
    repeats: list[int] = []
    while bags and len(repeats) < room:
        kept = []
        for number, members in bags:
            if len(repeats) == room or _ratios(counts)[number] <= mean:
                continue
            kept.append((number, members))
            row = int(members[rng.integers(len(members))])
            counts += matrix[row]
            repeats.append(row)
        bags = kept
    return np.concatenate([np.arange(len(matrix)), np.array(repeats, np.int64)])


def lp_ros(matrix: BoolArray, growth: float, rng: np.random.Generator) -> IntArray:
    """Repeat tiles with rare sets of labels until the set has grown by a share (LP-ROS).

    Charte et al., "A first approach to deal with imbalance in multi-label datasets", HAIS 2013:
    sets of labels with fewer tiles than the mean over the sets are minority bags. Each bag, from
    the largest on, gets an equal part of the growth, but no more than it lacks to the mean; what it
    does not take is spread over the bags after it. Where parts are not whole, the earlier bags of
    the rest get one more.

    Args:
        matrix: (N, C) bool.
        growth: share of N to add at most; fewer are added when every bag has the mean.
        rng: decides which tiles repeat.

    Returns:
        int64 row numbers: 0 to N - 1, then the repeats bag by bag.

    Raises:
        ValueError: growth is negative or not finite, no tile has a label.

    Cost: O(N C log N).

    >>> matrix = np.array([[1, 0]] * 6 + [[1, 1]] * 2, dtype=bool)
    >>> np.bincount(lp_ros(matrix, 0.5, np.random.default_rng(0))[8:], minlength=8)[:6].sum()
    np.int64(0)
    """
    room = _room(matrix, growth)
    _, bag_of = np.unique(matrix, axis=0, return_inverse=True)
    sizes = np.bincount(bag_of.reshape(-1))
    mean = len(matrix) / len(sizes)
    minority = np.flatnonzero(sizes < mean)
    parts = [np.arange(len(matrix))]
    left = room
    order = minority[np.argsort(-sizes[minority], kind="stable")]
    for place, bag in enumerate(order):
        share = -(-left // (len(order) - place))  # rounded up
        count = min(share, int(np.floor(mean - sizes[bag])))
        parts.append(rng.choice(np.flatnonzero(bag_of.reshape(-1) == bag), count, replace=True))
        left -= count
    return np.concatenate(parts).astype(np.int64)


def _ratios(counts: IntArray) -> DoubleArray:
    """Return the imbalance ratios, 0 for a class without a tile: nothing of it can be repeated."""
    return np.nan_to_num(imbalance_ratios(counts), nan=0.0)


def _room(matrix: BoolArray, growth: float) -> int:
    if not (np.isfinite(growth) and growth >= 0):
        raise ValueError(f"growth must be a share of the tiles, 0 or more; got {growth}.")
    if not matrix.any():
        raise ValueError("Some tile must have a label; none has.")
    return int(len(matrix) * growth)


def _check(matrix: BoolArray, target: int, order: IntArray) -> None:
    if target < 1:
        raise ValueError(f"target must be at least 1 tile per class; got {target}.")
    if sorted(order.tolist()) != list(range(matrix.shape[1])):
        raise ValueError(
            f"order must hold every one of {matrix.shape[1]} classes once; got {order.tolist()}. "
            f"Make it by class_order."
        )
