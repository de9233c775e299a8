"""The Biased Circles study: both selection methods, every model, training sets of growing size.

Beside the 60 epochs of the fixture, the perceptron is scored after the same number of gradient
steps whatever the size of its training set. With fixed epochs a larger set also buys more steps,
so only those arms can speak of data efficiency: `mlp-960-steps` gives every set the steps that 60
epochs give 500 points, `mlp-8460-steps` those that they give 4,500.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from balancer.comparison.circle_models import (
    CLASSIFIERS,
    predict_classifier,
    predict_networks,
    updates_of,
)
from balancer.comparison.circle_scores import HEADLINE_POINTS, Score
from balancer.comparison.circles import (
    METHODS,
    NUM_POINTS,
    NUM_RINGS,
    RING_SIZES,
    Circles,
    Fixture,
    class_size_std,
    draw_circles,
)
from balancer.seeding import derive_seed
from balancer.types import BoolArray, IntArray

SIZES = (250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2500, 3000, 3500, 4000, NUM_POINTS)
QUICK_SIZES = (250, 500, 1250, 2500, NUM_POINTS)
EQUAL_STEPS = (updates_of(HEADLINE_POINTS), updates_of(NUM_POINTS))

TITLES = {
    "svc": "SVC (RBF, C = 10)",
    "mlp": "MLP, 60 epochs",
    **{f"mlp-{steps}-steps": f"MLP, {steps:,} steps" for steps in EQUAL_STEPS},
    "knn": "5 nearest neighbours",
    "tree": "Decision tree",
}
"""What figures and tables call the models; their order there."""


def run_study(
    fixtures: Sequence[Fixture], *, sizes: Sequence[int], seeds: Sequence[int]
) -> Iterator[list[Score]]:
    """Yield the scores of one fixture and size at a time, `len(fixtures) * len(sizes)` batches.

    Cost: about two minutes on one core for both fixtures, `SIZES` and five seeds; nine tenths of
    it are the perceptron's steps.
    """
    for fixture in fixtures:
        circles = [draw_circles(fixture, seed) for seed in seeds]
        for num_points in sizes:
            yield score_size(fixture, circles, num_points=num_points, seeds=seeds)


def score_size(
    fixture: Fixture, circles: Sequence[Circles], *, num_points: int, seeds: Sequence[int]
) -> list[Score]:
    """Score every model of a fixture on training sets of one size.

    Args:
        fixture: what the circles were drawn from.
        circles: one archive per seed.
        num_points: size of the training sets.
        seeds: as many as circles.

    Raises:
        ValueError: as many seeds as circles are needed.
    """
    arms = [(c, s, m) for c, s in zip(circles, seeds, strict=True) for m in METHODS]
    scores = []
    for model in fixture.models:
        for name, hits in _hits(fixture, model, arms, num_points).items():
            for (drawn, seed, method), hit in zip(arms, hits, strict=True):
                rows = drawn.training_rows(method, num_points)
                recall = hit.reshape(NUM_RINGS, -1).mean(axis=1)  # test sets lie ring by ring
                scores.append(
                    Score(
                        fixture=fixture.name,
                        model=name,
                        method=method,
                        seed=seed,
                        num_points=num_points,
                        accuracy=float(recall.mean()),
                        archive_accuracy=float(np.average(recall, weights=RING_SIZES)),
                        class_size_std=class_size_std(drawn.rings[rows], NUM_RINGS),
                    )
                )
    return scores


def _hits(
    fixture: Fixture, model: str, arms: Sequence[tuple[Circles, int, str]], num_points: int
) -> dict[str, list[BoolArray]]:
    """Return for each name of a model (one, or one per number of steps) the hits of each arm."""
    rows = [drawn.training_rows(method, num_points) for drawn, _, method in arms]
    # Equal for both methods, so that at the full size equal sets give equal models.
    model_seeds = [derive_seed(s, "circles", fixture.name, model, num_points) for _, s, _ in arms]
    if model in CLASSIFIERS:
        predicted = [
            predict_classifier(
                model, drawn.points[r], drawn.rings[r], drawn.test_points, seed=model_seed % 2**32
            )
            for (drawn, _, _), r, model_seed in zip(arms, rows, model_seeds, strict=True)
        ]
        return {model: _compare(predicted, arms)}
    names = {f"mlp-{steps}-steps": steps for steps in EQUAL_STEPS}
    names[model] = updates_of(num_points)
    checkpoints = sorted(set(names.values()))
    networks = predict_networks(
        np.stack([drawn.points[r] for (drawn, _, _), r in zip(arms, rows, strict=True)]),
        np.stack([drawn.rings[r] for (drawn, _, _), r in zip(arms, rows, strict=True)]),
        np.stack([drawn.test_points for drawn, _, _ in arms]),
        seeds=model_seeds,
        checkpoints=checkpoints,
    )
    return {
        name: _compare(list(networks[checkpoints.index(steps)]), arms)
        for name, steps in sorted(names.items())
    }


def _compare(
    predicted: Sequence[IntArray], arms: Sequence[tuple[Circles, int, str]]
) -> list[BoolArray]:
    return [p == drawn.test_rings for p, (drawn, _, _) in zip(predicted, arms, strict=True)]
