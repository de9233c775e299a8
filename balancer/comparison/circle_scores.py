"""Scores of the Biased Circles study, and what is read from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from balancer.types import DoubleArray, IntArray

HEADLINE_POINTS = 500
"""Size of the training set in the paper's table."""


@dataclass(frozen=True, slots=True)
class Score:
    """One trained model on one training set.

    Attributes:
        fixture: name of the fixture.
        model: name of the model; `mlp-*-steps` are the arms with equal gradient steps.
        method: how the training set was selected.
        seed: seed of the archive, the selection and the model.
        num_points: size of the training set.
        accuracy: on the balanced test set, 0 to 1.
        archive_accuracy: the same recalls weighted by the archive's ring sizes: the accuracy to
            expect on a test set that is as imbalanced as the archive.
        class_size_std: standard deviation of the training set's ring sizes (ddof = 0), in points.
    """

    fixture: str
    model: str
    method: str
    seed: int
    num_points: int
    accuracy: float
    archive_accuracy: float
    class_size_std: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A measure against the size of the training set.

    Attributes:
        num_points: (P,) int64, ascending.
        values: (S, P) float64, one row per seed.
    """

    num_points: IntArray
    values: DoubleArray

    @property
    def mean(self) -> DoubleArray:
        """(P,) mean over the seeds."""
        mean: DoubleArray = self.values.mean(axis=0)
        return mean

    @property
    def std(self) -> DoubleArray:
        """(P,) sample standard deviation over the seeds (ddof = 1); 0 for a single seed."""
        if len(self.values) < 2:
            return np.zeros(self.values.shape[1])
        std: DoubleArray = self.values.std(axis=0, ddof=1)
        return std

    def at(self, num_points: int) -> DoubleArray:
        """Return the (S,) values at one size."""
        return self.values[:, int(np.flatnonzero(self.num_points == num_points)[0])]


def curve(
    scores: Sequence[Score], fixture: str, model: str, method: str, measure: str = "accuracy"
) -> Curve:
    """Gather a measure (a field of `Score`) over sizes and seeds."""
    found = {
        (score.seed, score.num_points): float(getattr(score, measure))
        for score in scores
        if (score.fixture, score.model, score.method) == (fixture, model, method)
    }
    seeds = sorted({seed for seed, _ in found})
    sizes = sorted({size for _, size in found})
    values = np.array([[found[seed, size] for size in sizes] for seed in seeds])
    return Curve(np.array(sizes, dtype=np.int64), values)


def points_to_match(num_points: IntArray, accuracies: DoubleArray, target: float) -> float:
    """Return the first size at which a curve reaches `target`, between two sizes by interpolation.

    NaN where it never does; the first size where it already starts there.

    >>> points_to_match(np.array([500, 1000]), np.array([0.5, 0.9]), 0.7)
    750.0
    """
    reached = np.flatnonzero(accuracies >= target)
    if len(reached) == 0:
        return math.nan
    k = int(reached[0])
    if k == 0:
        return float(num_points[0])
    low, high = accuracies[k - 1], accuracies[k]
    share = (target - low) / (high - low)
    return float(num_points[k - 1] + share * (num_points[k] - num_points[k - 1]))


def random_points_to_match(scores: Sequence[Score], fixture: str, model: str) -> float:
    """Return how many random points reach the mean accuracy of 500 diverse ones, else NaN."""
    target = curve(scores, fixture, model, "diverse").at(HEADLINE_POINTS).mean()
    random = curve(scores, fixture, model, "random")
    return points_to_match(random.num_points, random.mean, float(target))


def score_table(scores: Sequence[Score]) -> pa.Table:
    """Return the scores as an Arrow table, one row each."""
    return pa.Table.from_pylist([asdict(score) for score in scores])
