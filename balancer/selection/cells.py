"""Coarse cells of the rows: where to look first for a pick that rules a row out.

A few centroids from a sample; the assignment is approximate on purpose. Cells only order the work:
every decision is made on canonical distances, whatever the cells.
"""

from __future__ import annotations

import numpy as np

from balancer.distances import l2_normalize
from balancer.types import BoolArray, FloatArray, IntArray

SAMPLE = 2048
ITERATIONS = 2


def sample_centroids(
    points: FloatArray, num_cells: int, *, cosine: bool, excluded: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the mean (D,) of an evenly spaced sample, and (num_cells, D) centred centroids of it.

    Excluded rows, which may hold anything, are not sampled; where all are, the mean is 0.

    Cost: O(SAMPLE * num_cells * D), a few milliseconds.
    """
    if excluded is None:
        sample = points[:: max(1, len(points) // SAMPLE)][:SAMPLE]
    else:
        kept = np.flatnonzero(~excluded)
        sample = points[kept[:: max(1, len(kept) // SAMPLE)][:SAMPLE]]
    if len(sample) == 0:
        return np.zeros(points.shape[1], np.float32), np.zeros((1, points.shape[1]), np.float32)
    sample = np.ascontiguousarray(sample, dtype=np.float32)
    if cosine:
        sample = l2_normalize(sample)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = sample - mean
    if num_cells <= 1 or len(sample) < num_cells:
        return mean, np.zeros((1, points.shape[1]), np.float32)
    centroids = sample[_spread(sample, num_cells)].copy()
    for _ in range(ITERATIONS):
        labels = _nearest(sample, centroids)
        counts = np.bincount(labels, minlength=num_cells)
        order = np.argsort(labels, kind="stable")
        starts = np.cumsum(counts) - counts
        filled = counts > 0
        sums = np.add.reduceat(sample[order], starts[filled], axis=0)
        centroids[filled] = sums / counts[filled, None]
    return mean, centroids


def _spread(sample: FloatArray, count: int) -> IntArray:
    """Return rows far from each other, so that a few huge groups do not take all the cells."""
    norms = np.einsum("ij,ij->i", sample, sample)
    chosen = [0]
    nearest = np.full(len(sample), np.inf, np.float32)
    for _ in range(count - 1):
        last = chosen[-1]
        nearest = np.minimum(nearest, norms - 2 * sample @ sample[last] + norms[last])
        nearest[last] = -np.inf
        chosen.append(int(nearest.argmax()))
    return np.array(chosen, np.int64)


def _nearest(rows: FloatArray, centroids: FloatArray) -> IntArray:
    half_norms = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    labels: IntArray = (half_norms - rows @ centroids.T).argmin(axis=1)
    return labels
