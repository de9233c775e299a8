"""Every strategy's selection carries a certificate that holds."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.config import ClusteringConfig, SelectionConfig, Strategy
from balancer.selection import select_certified
from balancer.selection.strategies import STRATEGIES
from tests.oracles.brute_force_k_center import optimum
from tests.selection.test_select import long_tailed

EVERY: list[Strategy] = list(STRATEGIES)
KMEANS = ClusteringConfig(num_clusters=3)


@pytest.mark.parametrize("strategy", EVERY)
class TestEveryStrategy:
    @pytest.mark.parametrize("seed", range(4))
    def test_the_bound_holds_against_every_choice(self, strategy: Strategy, seed: int) -> None:
        points = np.random.default_rng(seed).standard_normal((9, 2)).astype(np.float32)
        config = SelectionConfig(budget=3, strategy=strategy)
        picked, certify = select_certified(
            points, config, seed=seed, normalize=False, clustering=KMEANS
        )
        found = certify().certificate
        best = optimum(points, 3)
        assert found.lower_bound <= best * (1 + 1e-6)
        assert best <= found.radius * (1 + 1e-6)
        assert found.ratio is not None
        if found.factor is not None:
            assert found.radius <= found.factor * best * (1 + 1e-6)
        assert found.problem.num_picks == len(picked) == 3

    def test_the_packing_lies_as_far_apart_as_claimed(self, strategy: Strategy) -> None:
        points, _ = long_tailed()
        config = SelectionConfig(budget=25, strategy=strategy)
        picked, certify = select_certified(
            points, config, seed=3, normalize=False, clustering=KMEANS
        )
        found = certify()
        packing = found.certificate.packing
        if found.packing_ids is None:
            ids = np.append(picked.tile_ids, str(packing.farthest_tile_id))
        else:
            ids = found.packing_ids
        rows = points[ids.astype(int)].astype(np.float64)
        gaps = np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2))
        assert len(set(ids.tolist())) == packing.num_points == 26
        assert gaps[np.triu_indices(26, 1)].min() >= packing.radius * (1 - 1e-6)

    def test_every_row_picked(self, strategy: Strategy) -> None:
        points, _ = long_tailed()
        config = SelectionConfig(budget=20, strategy=strategy)
        _, certify = select_certified(points[:20], config, normalize=False, clustering=KMEANS)
        found = certify().certificate
        assert (found.radius, found.lower_bound, found.ratio) == (0.0, 0.0, 1.0)


def test_only_farthest_point_has_a_budget_curve() -> None:
    points, _ = long_tailed()
    for strategy in EVERY:
        config = SelectionConfig(budget=25, strategy=strategy)
        _, certify = select_certified(points, config, clustering=KMEANS)
        curve = certify().certificate.curve
        assert [point.num_picks for point in curve] == (
            list(range(1, 26)) if strategy == "farthest-point" else []
        )


def test_the_factors_are_those_of_the_papers() -> None:
    points, _ = long_tailed()

    def factor(strategy: Strategy, epsilon: float = 0.5) -> float | None:
        config = SelectionConfig(budget=25, strategy=strategy, epsilon=epsilon)
        return select_certified(points, config, clustering=KMEANS)[1]().certificate.factor

    assert factor("farthest-point") == 2
    found = factor("composable")
    assert found is not None
    assert 2 <= found <= 4
    fine = factor("composable-epsilon", 0.1)
    assert fine is not None
    assert 2 <= fine <= 2.1
    assert factor("per-cluster") is factor("random") is factor("hybrid") is None
