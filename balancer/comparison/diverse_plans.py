"""Undersampling by diverse picks instead of random ones, without labels and with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from balancer.comparison.recipes import make_recipe
from balancer.distances import l2_normalize, require_finite
from balancer.imbalance.labels import LabelTable
from balancer.selection import farthest_point
from balancer.selection.pool import rows_of
from balancer.types import FloatArray, IdArray, IntArray


def diverse_rows(
    features: FloatArray,
    ids: IdArray,
    size: int,
    settings: Mapping[str, Any],
    *,
    normalize: bool,
    rng: np.random.Generator,
) -> IntArray:
    """Pick `size` rows by the selection engine. It sees features and ids, and never a label.

    Args:
        features: (N, D) float32, finite; not zero where they are normalised.
        ids: (N,) unique tile ids.
        size: how many.
        settings: keys of `SelectionConfig` other than the budget, and of `ClusteringConfig`.
        normalize: L2-normalise the rows first.
        rng: gives the seed of the selection.

    Returns:
        (size,) int64 row numbers, ascending.

    Raises:
        ConfigError: settings that the selection does not know.
        ValueError: as `balancer.selection.select`.

    >>> line = np.array([[0.0], [1.0], [2.0], [9.0]], dtype=np.float32)
    >>> names, rng = np.array(["a", "b", "c", "d"]), np.random.default_rng(0)
    >>> diverse_rows(line, names, 4, {"strategy": "random"}, normalize=False, rng=rng).tolist()
    [0, 1, 2, 3]
    """
    recipe = make_recipe("diverse", settings)
    require_finite(features, ids, nonzero=normalize)
    points = l2_normalize(features) if normalize else features
    picked = recipe.pick(points, ids, size, seed=int(rng.integers(2**62)))
    return np.sort(rows_of(ids, picked))


def fill_diverse(
    features: FloatArray,
    labels: LabelTable,
    target: int,
    order: IntArray,
    *,
    normalize: bool,
    rng: np.random.Generator,
) -> IntArray:
    """Fill every class to `target` tiles like `fill_under`, but with diverse picks.

    The tiles of a class that are added are each the farthest, among the class's tiles that are not
    chosen yet, from those of the class that are. A class without a chosen tile starts from a random
    one.

    Args:
        features: (N, D) float32, finite; not zero where they are normalised.
        labels: of the same rows.
        target: tiles per class.
        order: (C,) class numbers in the order in which they are filled.
        normalize: L2-normalise the rows first.
        rng: decides the first tiles.

    Returns:
        int64 distinct row numbers, ascending; every class has at least min(target, its tiles).

    Raises:
        ValueError: a target below 1.

    Cost: that of farthest-point within every class.

    >>> from balancer.imbalance.labels import label_table
    >>> line = np.array([[0.0], [1.0], [9.0], [9.0]], dtype=np.float32)
    >>> table = label_table(["a", "b", "c", "d"], [["sea"], ["sea"], ["sea"], ["land"]])
    >>> rng = np.random.default_rng(1)
    >>> rows = fill_diverse(line, table, 2, np.array([0, 1]), normalize=False, rng=rng)
    >>> 2 in rows, len(rows)
    (True, 3)
    """
    if target < 1:
        raise ValueError(f"target must be at least 1 tile per class; got {target}.")
    require_finite(features, labels.ids, nonzero=normalize)
    points = l2_normalize(features) if normalize else features
    chosen = np.zeros(len(labels), np.bool_)
    for number in order:
        members = np.flatnonzero(labels.matrix[:, number])
        have = np.flatnonzero(chosen[members])
        goal = min(target, len(members))
        if len(have) >= goal:
            continue
        if len(have) == 0:
            have = rng.integers(len(members), size=1)
        picks = farthest_point(
            points[members], goal, ids=labels.ids[members], include=have.astype(np.int64)
        )
        chosen[members[picks.indices]] = True
    return np.flatnonzero(chosen).astype(np.int64)
