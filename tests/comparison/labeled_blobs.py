"""Small labeled data that a head can learn: one blob per class, or labels as sums of blobs."""

from __future__ import annotations

import numpy as np

from balancer.comparison.plans import TrainingData
from balancer.imbalance.labels import LabelTable
from balancer.selection.farthest_point import row_ids


def single_label(*sizes: int, seed: int = 0, noise: float = 0.5, dim: int = 8) -> TrainingData:
    """Return so many rows of each class, around one unit vector per class times 3."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.eye(len(sizes), dtype=np.bool_)[numbers]
    return _data(matrix, rng, noise, dim)


def many_labels(num_rows: int = 200, *, seed: int = 0, noise: float = 0.5) -> TrainingData:
    """Return rows with five labels of falling frequency; the first is on half of the rows."""
    rng = np.random.default_rng(seed)
    matrix = rng.random((num_rows, 5)) < np.array([0.5, 0.4, 0.3, 0.1, 0.05])
    matrix[:5] |= np.eye(5, dtype=np.bool_)
    return _data(matrix, rng, noise, 8)


def _data(
    matrix: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    rng: np.random.Generator,
    noise: float,
    dim: int,
) -> TrainingData:
    centers = 3 * np.eye(matrix.shape[1], dim)
    points = matrix @ centers + noise * rng.normal(size=(len(matrix), dim))
    names = tuple(f"class-{number}" for number in range(matrix.shape[1]))
    table = LabelTable(row_ids(len(matrix)), names, matrix)
    return TrainingData(table, points.astype(np.float32))
