"""How balanced a set is: entropy, Gini, divergence, class sizes, churn.

All take group sizes (clusters or classes) and are 0-d numbers; none looks at a tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balancer.types import IdArray, IntArray


def effective_number(counts: IntArray) -> float:
    """Return exp(Shannon entropy) of the group shares: how many equal groups it is worth.

    >>> round(effective_number(np.array([5, 5, 5, 5])), 6)
    4.0
    """
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def gini(counts: IntArray) -> float:
    """Return the Gini coefficient of the group sizes: 0 when equal, (K - 1) / K at most.

    >>> gini(np.array([3, 3, 3]))
    0.0
    """
    ordered = np.sort(counts).astype(np.float64)
    total = ordered.sum()
    if total == 0:
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float((2 * ranks - len(ordered) - 1) @ ordered / (len(ordered) * total))


def kl_to_uniform(counts: IntArray) -> float:
    """Return the Kullback-Leibler divergence from the group shares to equal shares, in nats.

    >>> round(kl_to_uniform(np.array([1, 0])), 6) == round(float(np.log(2)), 6)
    True
    """
    return float(np.log(len(counts)) - np.log(effective_number(counts))) if counts.sum() else 0.0


def churn(before: IdArray, after: IdArray) -> float:
    """Return 1 - Jaccard similarity of two selections.

    >>> churn(np.array(["a", "b"]), np.array(["b", "c"])) == 1 - 1 / 3
    True
    """
    common = len(np.intersect1d(before, after))
    union = len(before) + len(after) - common
    return 1.0 - common / union if union else 0.0


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """Class sizes of a set, seen from the archive it was picked from.

    Attributes:
        counts: tiles of each class in the set, in the archive's class order.
        std: standard deviation (ddof 0) over classes, in tiles, of the set.
        effective_classes: exp(entropy) of the class shares.
        rare_share: share of the set that belongs to rare classes.
        rare_coverage: mean over rare classes of the share of their tiles that are in the set.
    """

    counts: tuple[int, ...]
    std: float
    effective_classes: float
    rare_share: float
    rare_coverage: float


def rare_classes(archive_counts: IntArray, percentile: float) -> IntArray:
    """Return the classes whose size is at or under the percentile of the class sizes.

    Linear interpolation, and `<=` (Panigrahi and Zhu, section 4).

    >>> rare_classes(np.array([100, 10, 50, 5]), 25)
    array([3])
    """
    return np.flatnonzero(archive_counts <= np.percentile(archive_counts, percentile))


def class_balance(
    counts: IntArray, archive_counts: IntArray, *, rare_percentile: float
) -> ClassBalance:
    """Measure the class sizes of a set picked from an archive.

    Args:
        counts: (C,) tiles of each class in the set.
        archive_counts: (C,) tiles of each class in the archive, all >= 1.
        rare_percentile: see `rare_classes`.
    """
    rare = rare_classes(archive_counts, rare_percentile)
    return ClassBalance(
        counts=tuple(int(count) for count in counts),
        std=float(np.std(counts)),
        effective_classes=effective_number(counts),
        rare_share=float(counts[rare].sum() / max(1, counts.sum())),
        rare_coverage=float((counts[rare] / archive_counts[rare]).mean()),
    )


def class_name(value: object) -> str | None:
    """Return a label as text; None for no label. Whole floats read as integers.

    >>> class_name(1.0), class_name("river"), class_name(None)
    ('1', 'river', None)
    """
    if value is None or value != value:  # NaN is no label either
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def count_labels(labels: Sequence[str | None], classes: Sequence[str]) -> IntArray:
    """Return the (C,) counts of `classes` among `labels`; tiles without a label do not count."""
    index: Mapping[str, int] = {name: i for i, name in enumerate(classes)}
    numbers = np.array([index[label] for label in labels if label is not None], dtype=np.int64)
    return np.bincount(numbers, minlength=len(classes)).astype(np.int64)
