"""Resampling of tiles with one label each: equal numbers per class.

Rules of Panigrahi and Zhu, section 5.2, with two corrections: where a class has enough tiles they
are drawn without replacement, and a class that has exactly the target is left as it is.
"""

from __future__ import annotations

import numpy as np

from balancer.types import BoolArray, IntArray


def undersample(
    matrix: BoolArray, target: int, rng: np.random.Generator, *, as_published: bool = False
) -> IntArray:
    """Draw `target` tiles of every class, or all where a class has fewer.

    Args:
        matrix: (N, C) bool, one label per row.
        target: tiles per class.
        rng: decides which.
        as_published: draw exactly `target` of every class with replacement, as the authors' code
            does; tiles then repeat.

    Returns:
        int64 row numbers, ascending; distinct unless `as_published`.

    Raises:
        ValueError: a row without exactly one label, a target below 1; `as_published` with a class
            that has no tile.

    Cost: O(N C).

    >>> one_hot = np.eye(2, dtype=bool)[[0, 0, 0, 1]]
    >>> undersample(one_hot, 2, np.random.default_rng(0)).tolist()
    [1, 2, 3]
    """
    parts = []
    for members in _members(matrix, target):
        if as_published:
            if len(members) == 0:
                raise ValueError("Every class must have a tile to be drawn from; one has none.")
            parts.append(rng.choice(members, target, replace=True))
        elif len(members) > target:
            parts.append(rng.choice(members, target, replace=False))
        else:
            parts.append(members)
    return np.sort(np.concatenate(parts)).astype(np.int64)


def oversample(matrix: BoolArray, target: int, rng: np.random.Generator) -> IntArray:
    """Keep every tile, and draw more with replacement until every class has `target`.

    A class with `target` tiles or more stays as it is. (The published code would draw such a class
    anew with replacement, which loses tiles.)

    Args:
        matrix: (N, C) bool, one label per row.
        target: tiles per class.
        rng: decides which repeat.

    Returns:
        int64 row numbers: 0 to N - 1, then the repeats class by class.

    Raises:
        ValueError: a row without exactly one label, a target below 1.

    Cost: O(N C + rows returned).

    >>> one_hot = np.eye(2, dtype=bool)[[0, 0, 0, 1]]
    >>> oversample(one_hot, 3, np.random.default_rng(0)).tolist()
    [0, 1, 2, 3, 3, 3]
    """
    parts = [np.arange(len(matrix))]
    parts += [
        rng.choice(members, target - len(members), replace=True)
        for members in _members(matrix, target)
        if 0 < len(members) < target
    ]
    return np.concatenate(parts).astype(np.int64)


def _members(matrix: BoolArray, target: int) -> list[IntArray]:
    if target < 1:
        raise ValueError(f"target must be at least 1 tile per class; got {target}.")
    sizes = matrix.sum(axis=1)
    if len(matrix) == 0 or (sizes != 1).any():
        raise ValueError(
            f"Every row must have one label; {int((sizes != 1).sum())} of {len(matrix)} have none "
            f"or several. Use balancer.imbalance.multilabel_resampling for these."
        )
    return [np.flatnonzero(column) for column in matrix.T]
