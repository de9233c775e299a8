"""The classifiers of the Biased Circles study, each a function from training sets to predictions.

The first two were fitted to the paper's table, k-nearest neighbours and a tree stand beside them
so that a gain is no artefact of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from balancer.comparison.circles import NUM_RINGS
from balancer.comparison.threads import one_thread
from balancer.types import FloatArray, IntArray

BATCH_SIZE = 32
EPOCHS = 60
HIDDEN_WIDTH = 64
LEARNING_RATE = 1e-3

CLASSIFIERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "svc": lambda _seed: SVC(kernel="rbf", C=10, gamma="scale"),
    "knn": lambda _seed: KNeighborsClassifier(n_neighbors=5),
    "tree": lambda seed: DecisionTreeClassifier(random_state=seed),
}
"""Models of scikit-learn, by name; the argument seeds those that draw random numbers."""


def updates_of(num_points: int, epochs: int = EPOCHS) -> int:
    """Return the gradient steps of `epochs` passes over `num_points`, the last batch not dropped.

    >>> updates_of(500), updates_of(4500)
    (960, 8460)
    """
    return epochs * -(-num_points // BATCH_SIZE)


def predict_classifier(
    name: str, points: FloatArray, rings: IntArray, test_points: FloatArray, *, seed: int
) -> IntArray:
    """Fit a model of `CLASSIFIERS` and return its (T,) predictions."""
    model = CLASSIFIERS[name](seed).fit(points, rings)
    predicted: IntArray = model.predict(test_points)
    return predicted


def predict_networks(
    points: FloatArray,
    rings: IntArray,
    test_points: FloatArray,
    *,
    seeds: Sequence[int],
    checkpoints: Sequence[int],
) -> IntArray:
    """Train M perceptrons side by side and return what each predicts at every checkpoint.

    2-64-64-10 with ReLU, cross entropy, Adam with a constant rate of 1e-3, batches of 32 drawn
    without replacement in each epoch, torch's default initialization of `Linear`. The networks
    share nothing but the loop: network m sees its own rows in an order drawn from its own seed, so
    networks with equal seeds and rows are equal. One trajectory serves every checkpoint, because
    the rate is constant.

    Args:
        points: (M, n, 2) float32 training points of each network.
        rings: (M, n) int64.
        test_points: (M, T, 2) float32.
        seeds: M seeds of initialization and order.
        checkpoints: numbers of gradient steps after which to predict, ascending.

    Returns:
        (C, M, T) int64 predictions.

    Raises:
        ValueError: checkpoints that do not ascend.

    Cost: about 0.7 ms per step for M = 10 on one core; memory of M small networks.
    """
    if sorted(set(checkpoints)) != list(checkpoints):
        raise ValueError(f"checkpoints must ascend; got {list(checkpoints)}.")
    with one_thread():
        return _train_and_predict(points, rings, test_points, seeds, checkpoints)


def _train_and_predict(
    points: FloatArray,
    rings: IntArray,
    test_points: FloatArray,
    seeds: Sequence[int],
    checkpoints: Sequence[int],
) -> IntArray:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameters = _initial_parameters(generators)
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    inputs, targets = torch.from_numpy(points), torch.from_numpy(rings)
    held_out = torch.from_numpy(test_points)
    predictions: list[IntArray] = []
    step = 0
    while len(predictions) < len(checkpoints):
        order = torch.stack([torch.randperm(points.shape[1], generator=g) for g in generators])
        for rows in torch.split(order, BATCH_SIZE, dim=1):  # (M, b)
            batch = inputs.gather(1, rows[..., None].expand(-1, -1, 2))
            loss = torch.nn.functional.cross_entropy(
                _forward(parameters, batch).flatten(0, 1),
                targets.gather(1, rows).flatten(),
                reduction="sum",
            )
            optimizer.zero_grad()
            # A sum over networks of mean losses: each network gets the gradient of its own mean.
            (loss / rows.shape[1]).backward()
            optimizer.step()
            step += 1
            if step == checkpoints[len(predictions)]:
                with torch.no_grad():
                    predictions.append(_forward(parameters, held_out).argmax(dim=2).numpy())
                if len(predictions) == len(checkpoints):
                    break
    return np.stack(predictions)


def _initial_parameters(generators: Sequence[torch.Generator]) -> list[torch.Tensor]:
    """Return weights (M, fan_in, fan_out) and biases (M, 1, fan_out), U(+-1 / sqrt(fan_in))."""
    widths = (2, HIDDEN_WIDTH, HIDDEN_WIDTH, NUM_RINGS)
    parameters = []
    for fan_in, fan_out in pairwise(widths):
        bound = fan_in**-0.5
        for rows in (fan_in, 1):
            drawn = [torch.rand(rows, fan_out, generator=g) for g in generators]
            parameters.append(((torch.stack(drawn) * 2 - 1) * bound).requires_grad_())
    return parameters


def _forward(parameters: Sequence[torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    weights_and_biases = list(zip(parameters[::2], parameters[1::2], strict=True))
    for weight, bias in weights_and_biases[:-1]:
        batch = torch.baddbmm(bias, batch, weight).relu()
    weight, bias = weights_and_biases[-1]
    return torch.baddbmm(bias, batch, weight)
