"""When more rounds would not change the selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balancer.config import ConvergenceConfig


def stop_reason(
    measures: Mapping[str, Any],
    previous: Mapping[str, Any] | None,
    config: ConvergenceConfig,
    *,
    frozen: bool,
) -> str | None:
    """Return why the rounds should stop after this one, or None to go on.

    Args:
        measures: of the round just finished.
        previous: of the round before; None after the first.
        config: thresholds.
        frozen: the encoder is never trained.

    >>> one = {"sets": {"selected": {"effective_clusters": 10.0}}, "churn": None}
    >>> two = {"sets": {"selected": {"effective_clusters": 10.05}}, "churn": 0.02}
    >>> stop_reason(two, one, ConvergenceConfig(), frozen=False)
    'converged: churn 0.020 <= 0.05 and gain in effective clusters 0.005 <= 0.01'
    """
    if frozen:
        return "the encoder is frozen: every further round would repeat this one"
    if previous is None or measures["churn"] is None:
        return None
    before = previous["sets"]["selected"]["effective_clusters"]
    gain = measures["sets"]["selected"]["effective_clusters"] / before - 1
    if measures["churn"] <= config.max_churn and gain <= config.max_gain:
        return (
            f"converged: churn {measures['churn']:.3f} <= {config.max_churn} and gain in "
            f"effective clusters {gain:.3f} <= {config.max_gain}"
        )
    return None
