"""When the rounds stop, by hand-made measures."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.config import ConvergenceConfig
from balancer.rounds.convergence import stop_reason

RULE = ConvergenceConfig(max_churn=0.1, max_gain=0.25)


def measures(effective: float, churn: float | None) -> dict[str, Any]:
    return {"sets": {"selected": {"effective_clusters": effective}}, "churn": churn}


@pytest.mark.parametrize(
    ("effective", "churn", "stops"),
    [
        (10.1, 0.05, True),
        (12.5, 0.10, True),  # both limits are met exactly
        (9.0, 0.05, True),  # balance got worse: no gain to wait for
        (13.0, 0.05, False),  # still gaining
        (10.1, 0.11, False),  # still changing
    ],
)
def test_both_limits_must_hold(effective: float, churn: float, *, stops: bool) -> None:
    reason = stop_reason(measures(effective, churn), measures(10.0, None), RULE, frozen=False)
    assert (reason is not None) == stops


def test_reason_names_both_measures() -> None:
    reason = stop_reason(measures(10.1, 0.05), measures(10.0, 0.5), RULE, frozen=False)
    assert reason == ("converged: churn 0.050 <= 0.1 and gain in effective clusters 0.010 <= 0.25")


def test_the_first_round_never_converges() -> None:
    assert stop_reason(measures(10.0, None), None, RULE, frozen=False) is None


@pytest.mark.parametrize("before", [None, measures(10.0, None)])
def test_a_frozen_encoder_needs_one_round(before: dict[str, Any] | None) -> None:
    reason = stop_reason(measures(20.0, None), before, RULE, frozen=True)
    assert reason is not None
    assert "frozen" in reason
