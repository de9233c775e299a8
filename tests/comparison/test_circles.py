"""The generator and both selections: counts, radii, balance."""

import numpy as np
import pytest

from balancer.comparison.circle_study import SIZES
from balancer.comparison.circles import (
    FIXTURES,
    METHODS,
    NUM_POINTS,
    NUM_RINGS,
    RING_SIZES,
    Circles,
    class_size_std,
    draw_circles,
    draw_rings,
)


@pytest.fixture(scope="module", params=list(FIXTURES))
def drawn(request: pytest.FixtureRequest) -> Circles:
    return draw_circles(FIXTURES[request.param], seed=3)


def test_rings_have_the_paper_s_sizes(drawn: Circles) -> None:
    assert NUM_POINTS == 4500
    assert np.bincount(drawn.rings).tolist() == [800, 100] * 5
    assert np.bincount(drawn.test_rings).tolist() == [100] * NUM_RINGS
    assert drawn.points.dtype == np.float32


def test_points_lie_on_their_rings_up_to_the_noise() -> None:
    radii, noise = (4.0, 2.0), 0.1
    points, rings = draw_rings(radii, noise, (4000, 4000), np.random.default_rng(1))
    radius = np.hypot(*points.T)
    for ring, expected in enumerate(radii):
        # The tangential part of the noise adds noise^2 / (2 r) to the mean radius.
        mean = expected + noise**2 / (2 * expected)
        assert radius[rings == ring].mean() == pytest.approx(mean, abs=4 * noise / np.sqrt(4000))
        assert radius[rings == ring].std() == pytest.approx(noise, rel=0.06)


def test_noise_free_rings_are_exact() -> None:
    points, _ = draw_rings((0.5,), 0.0, (100,), np.random.default_rng(2))
    assert np.hypot(*points.T) == pytest.approx(0.5, abs=1e-6)


def test_the_same_seed_draws_the_same_circles() -> None:
    first, again, other = (draw_circles(FIXTURES["svc"], seed) for seed in (7, 7, 8))
    assert np.array_equal(first.points, again.points)
    assert np.array_equal(first.orders["diverse"], again.orders["diverse"])
    assert not np.array_equal(first.points, other.points)


def test_wrong_rings_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="got 2 radii and 1 sizes"):
        draw_rings((2.0, 1.0), 0.0, (5,), rng)
    with pytest.raises(ValueError, match=r"noise must not be negative; got -0\.1"):
        draw_rings((1.0,), -0.1, (5,), rng)


def test_orders_are_permutations_and_meet_at_the_full_size(drawn: Circles) -> None:
    for order in drawn.orders.values():
        assert np.array_equal(np.sort(order), np.arange(NUM_POINTS))
    random, diverse = (drawn.training_rows(method, NUM_POINTS) for method in METHODS)
    assert np.array_equal(random, diverse)


def test_diverse_sets_are_better_balanced_than_random_ones(drawn: Circles) -> None:
    for size in SIZES:
        random, diverse = (
            class_size_std(drawn.rings[drawn.training_rows(method, size)], NUM_RINGS)
            for method in ("random", "diverse")
        )
        assert diverse < random or size == NUM_POINTS
    assert random == diverse == 350.0


def test_class_size_std_is_the_population_formula() -> None:
    archive = np.repeat(np.arange(NUM_RINGS), RING_SIZES)
    assert class_size_std(archive, NUM_RINGS) == 350.0
    expected_counts = np.array(RING_SIZES) * 500 / NUM_POINTS
    assert expected_counts.std() == pytest.approx(38.9, abs=0.02)
    # A drawn set has the expected counts' variance plus the sampling variance of the counts,
    # n p (1 - p) (N - n) / (N - 1) averaged over rings and corrected for their fixed sum.
    share = np.array(RING_SIZES) / NUM_POINTS
    sampling = (500 * share * (1 - share)).mean() * (NUM_POINTS - 500) / (NUM_POINTS - 1)
    rng = np.random.default_rng(5)
    drawn = [class_size_std(rng.permutation(archive)[:500], NUM_RINGS) for _ in range(300)]
    assert np.square(drawn).mean() == pytest.approx(350**2 / 81 + sampling, rel=0.02)


def test_a_class_that_does_not_occur_counts_as_empty() -> None:
    assert class_size_std(np.array([0, 0]), 2) == 1.0
