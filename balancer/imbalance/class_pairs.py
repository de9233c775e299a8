"""Pairs of classes that are easily taken for each other: the fine-grained part of imbalance.

For each class the nearest other class: by the centroids of features, by what is predicted for it,
or, with labels alone, by the company that it keeps. Ties go to the class with the lower number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.imbalance.label_measures import cooccurrence
from balancer.types import BoolArray, DoubleArray, FloatArray, IntArray

ROWS_AT_ONCE = 8192
"""Rows whose distances are computed at once."""
NONE = -1
"""In place of a class where there is no nearest one."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassGeometry:
    """How the classes lie in features; NaN for a class without a tile.

    Attributes:
        spread: (C,) root mean square distance of a class's tiles to their centroid.
        nearest: (C,) int64 class with the nearest centroid; -1 where there is none.
        distance: (C,) between the two centroids.
        separation: (C,) that distance over the mean of the two spreads: below about 2 the classes
            overlap.
        pair_accuracy: (C,) mean over both classes of the share of tiles nearer to their own
            centroid than to the other one's. The own centroid is that of the other tiles of the
            class; tiles of both classes do not count.
    """

    spread: DoubleArray
    nearest: IntArray
    distance: DoubleArray
    separation: DoubleArray
    pair_accuracy: DoubleArray


def class_geometry(features: FloatArray, matrix: BoolArray) -> ClassGeometry:
    """Measure spread and separation of the classes, and how well nearest pairs are told apart.

    A tile with several labels belongs to each of these classes.

    Args:
        features: (N, D) float32, finite.
        matrix: (N, C) bool.

    Raises:
        ValueError: lengths that differ.

    Cost: O(N C D) time; 16 MiB beside the features for D = 256.

    >>> features = np.array([[0], [2], [10], [12]], dtype=np.float32)
    >>> found = class_geometry(features, np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool))
    >>> found.spread.tolist(), found.distance.tolist(), found.pair_accuracy.tolist()
    ([1.0, 1.0], [10.0, 10.0], [1.0, 1.0])
    """
    if features.ndim != 2 or len(features) != len(matrix):
        raise ValueError(
            f"features must have one row for each of {len(matrix)} tiles; got shape "
            f"{features.shape}."
        )
    counts = matrix.sum(axis=0, dtype=np.int64)
    centroids = _centroids(features, matrix, counts)
    squared = _squared_distances(features, centroids)
    spread = np.array(
        [
            np.sqrt(squared[matrix[:, c], c].mean()) if counts[c] else np.nan
            for c in range(len(counts))
        ]
    )
    gaps = np.sqrt(((centroids[:, None] - centroids[None]) ** 2).sum(axis=2))
    nearest = _least(gaps, counts > 0)
    partner = np.maximum(nearest, 0)
    known = nearest != NONE
    distance = np.where(known, gaps[np.arange(len(counts)), partner], np.nan)
    mean_spread = (spread + spread[partner]) / 2
    separation = np.full(len(counts), np.nan)
    np.divide(distance, mean_spread, out=separation, where=known & (mean_spread > 0))
    accuracy = np.array(
        [
            _pair_accuracy(squared, matrix, counts, (c, int(nearest[c]))) if known[c] else np.nan
            for c in range(len(counts))
        ]
    )
    return ClassGeometry(spread, nearest, distance, separation, accuracy)


def nearest_by_company(matrix: BoolArray) -> IntArray:
    """Return for each class the one that occurs in the most similar company.

    A class's company is the share of its tiles that have each other label. Two classes differ by
    the sum, over the labels other than themselves, of the difference of these shares. So labels
    that replace each other, such as haze and thin cloud, are near although no tile has both.

    Args:
        matrix: (N, C) bool, with tiles of many labels.

    Returns:
        (C,) int64; -1 for a class without a tile, and for all where no tile has two labels, which
        leaves nothing to compare.

    Cost: O(N C^2 + C^3).

    >>> names = [["haze", "tree"], ["cloud", "tree"], ["town", "road"], ["road"]]
    >>> from balancer.imbalance.labels import label_table
    >>> table = label_table("abcd", names)
    >>> [table.classes[c] for c in nearest_by_company(table.matrix)][:2]
    ['haze', 'cloud']
    """
    together = cooccurrence(matrix).astype(np.float64)
    counts = np.diag(together)
    num_classes = len(counts)
    if not (matrix.sum(axis=1) > 1).any():
        return np.full(num_classes, NONE, np.int64)
    shares = together / np.maximum(counts, 1)[:, None]
    apart = np.zeros((num_classes, num_classes))
    for one in range(num_classes):
        difference = np.abs(shares[one] - shares)  # (C, C): other class, label
        difference[:, one] = 0.0
        np.fill_diagonal(difference, 0.0)
        apart[one] = difference.sum(axis=1)
    return _least(apart, counts > 0)


def nearest_by_confusion(matrix: BoolArray, predicted: BoolArray) -> IntArray:
    """Return for each class the one that is most often wrongly predicted on its tiles.

    By share of the class's tiles; a prediction is wrong where the tile has not that label.

    Args:
        matrix: (N, C) bool, true labels.
        predicted: (N, C) bool.

    Returns:
        (C,) int64; -1 where nothing is wrongly predicted.

    Raises:
        ValueError: shapes that differ.

    >>> truth = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    >>> nearest_by_confusion(truth, np.eye(3, dtype=bool)[[1, 0, 1, 1]]).tolist()
    [1, -1, 1]
    """
    wrong = confusions(matrix, predicted)
    return np.where(wrong.any(axis=1), wrong.argmax(axis=1), NONE).astype(np.int64)


def confusions(matrix: BoolArray, predicted: BoolArray) -> IntArray:
    """Return the (C, C) int64 numbers of tiles of class a on which b is wrongly predicted.

    Raises:
        ValueError: shapes that differ.

    >>> confusions(np.array([[1, 0]], dtype=bool), np.array([[1, 1]], dtype=bool)).tolist()
    [[0, 1], [0, 0]]
    """
    if matrix.shape != predicted.shape:
        raise ValueError(
            f"Labels and predictions must have one shape; got {matrix.shape} and {predicted.shape}."
        )
    wrong = (predicted & ~matrix).astype(np.float64)
    return np.rint(matrix.astype(np.float64).T @ wrong).astype(np.int64)


def _centroids(features: FloatArray, matrix: BoolArray, counts: IntArray) -> DoubleArray:
    sums = np.zeros((matrix.shape[1], features.shape[1]))
    for begin in range(0, len(features), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        sums += matrix[part].T.astype(np.float64) @ features[part].astype(np.float64)
    return sums / np.maximum(counts, 1)[:, None]


def _squared_distances(features: FloatArray, centroids: DoubleArray) -> DoubleArray:
    squared = np.empty((len(features), len(centroids)))
    for begin in range(0, len(features), ROWS_AT_ONCE):
        rows = features[begin : begin + ROWS_AT_ONCE].astype(np.float64)
        for number, centroid in enumerate(centroids):
            squared[begin : begin + len(rows), number] = ((rows - centroid) ** 2).sum(axis=1)
    return squared


def _least(apart: DoubleArray, present: BoolArray) -> IntArray:
    apart = np.where(present[None] & present[:, None], apart, np.inf)
    np.fill_diagonal(apart, np.inf)
    if apart.size == 0:
        return np.empty(0, np.int64)
    return np.where(np.isfinite(apart).any(axis=1), apart.argmin(axis=1), NONE).astype(np.int64)


def _pair_accuracy(
    squared: DoubleArray, matrix: BoolArray, counts: IntArray, pair: tuple[int, int]
) -> float:
    shares = []
    for own, other in (pair, pair[::-1]):
        rows = matrix[:, own] & ~matrix[:, other]
        if not rows.any() or counts[own] < 2:
            continue
        # Without the tile itself, its centroid lies n / (n - 1) times as far away.
        stretch = (counts[own] / (counts[own] - 1)) ** 2
        shares.append((squared[rows, own] * stretch < squared[rows, other]).mean())
    return float(np.mean(shares)) if len(shares) == 2 else float("nan")
