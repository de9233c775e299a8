"""Linear probes: what a set of labeled tiles teaches, measured on a balanced test set."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from balancer.types import FloatArray, IdArray

MAX_ITERATIONS = 200
TOLERANCE = 1e-3
REGULARIZATION = 0.1
"""Inverse strength C of the L2 penalty on standardised features; not tuned per method."""


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """Macro accuracy (mean recall over the test set's classes) of two probes.

    Attributes:
        plain: every training tile weighs the same.
        weighted: tiles weigh inversely to their class's size: the control that a method must beat,
            because reweighting costs nothing once there are labels.
    """

    plain: float
    weighted: float


def linear_probe(
    features: FloatArray, labels: IdArray, test_features: FloatArray, test_labels: IdArray
) -> ProbeScores:
    """Fit multinomial logistic regression on standardised features and score it.

    Args:
        features: (n, D) of the labeled training tiles.
        labels: (n,) their classes.
        test_features: (m, D).
        test_labels: (m,) classes; each class counts the same.

    A class without a training tile scores 0, as it should: the set does not teach it.
    """
    scores = []
    for class_weight in (None, "balanced"):
        if len(np.unique(labels)) == 1:
            predicted = np.full(len(test_labels), labels[0])
        else:
            model = make_pipeline(
                StandardScaler(),
                LogisticRegression(
                    C=REGULARIZATION,
                    max_iter=MAX_ITERATIONS,
                    tol=TOLERANCE,
                    class_weight=class_weight,
                ),
            )
            # Several threads on such small matrices only wait for each other.
            with warnings.catch_warnings(), threadpool_limits(1):
                # Stopping at the limit is a fair comparison: it is the same for every method.
                warnings.simplefilter("ignore", ConvergenceWarning)
                predicted = model.fit(features, labels).predict(test_features)
        scores.append(macro_accuracy(test_labels, predicted))
    return ProbeScores(*scores)


def macro_accuracy(truth: IdArray, predicted: IdArray) -> float:
    """Return the mean over classes of recall, over classes that occur in `truth`.

    >>> macro_accuracy(np.array(["a", "a", "b"]), np.array(["a", "b", "b"]))
    0.75
    """
    recalls = [(predicted[truth == name] == name).mean() for name in np.unique(truth)]
    return float(np.mean(recalls))
