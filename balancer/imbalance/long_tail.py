"""A long-tailed pool cut from a labeled archive by a seeded recipe, for measuring."""

from __future__ import annotations

import numpy as np

from balancer.config import LongTailConfig
from balancer.seeding import child_generator, derive_seed, hash_ids
from balancer.types import IdArray, IntArray


def long_tailed_sizes(num_classes: int, config: LongTailConfig) -> IntArray:
    """Return the (C,) pool sizes by place in the tail, biggest first.

    n_c = round(largest * imbalance ** (-c / (C - 1))), at least 1.

    >>> long_tailed_sizes(3, LongTailConfig(largest=100, imbalance=100)).tolist()
    [100, 10, 1]
    """
    place = np.arange(num_classes) / max(1, num_classes - 1)
    sizes = np.rint(config.largest * config.imbalance ** (-place))
    return np.maximum(1, sizes).astype(np.int64)


def long_tailed_pool(
    ids: IdArray, labels: IdArray, config: LongTailConfig
) -> tuple[IntArray, IntArray]:
    """Choose the rows of a long-tailed pool and of a balanced holdout.

    The classes take their places in the tail in a seeded random order. Of each class the holdout
    is taken first, then the pool, both in the order of the ids' hashes.

    Args:
        ids: (N,) unique tile ids.
        labels: (N,) class names.
        config: the recipe.

    Returns:
        Row numbers of the pool and of the holdout, ascending.

    Raises:
        ValueError: a class has too few rows for the holdout and one pool tile.
    """
    classes = np.unique(labels)
    order = child_generator(config.seed, "long-tail").permutation(len(classes))
    sizes = long_tailed_sizes(len(classes), config)
    hashes = hash_ids(ids, derive_seed(config.seed, "long-tail-rows"))
    pool, holdout = [], []
    for place, number in enumerate(order):
        rows = np.flatnonzero(labels == classes[number])
        if len(rows) <= config.holdout:
            raise ValueError(
                f"Each class must have more than {config.holdout} rows for the holdout; "
                f"class {classes[number]!s} has {len(rows)}. Lower archive.long_tail.holdout."
            )
        rows = rows[np.lexsort((ids[rows], hashes[rows]))]
        holdout.append(rows[: config.holdout])
        pool.append(rows[config.holdout :][: sizes[place]])
    return np.sort(np.concatenate(pool)), np.sort(np.concatenate(holdout))
