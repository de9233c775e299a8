"""What a two-round selection says of its coresets: the factor that they guarantee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from balancer.verification.claims import Claims
from balancer.verification.constraint_checks import selection_facts
from balancer.verification.geometry import agree
from balancer.verification.report import Check, failed, passed, skipped


def check_coreset(claims: Claims, strategy: str | None, facts: Mapping[str, Any]) -> list[Check]:
    """Check the factor of a two-round selection against what the footer says of its coresets.

    The factor is 2 + the epsilon that was reached: what was wanted or less, unless a shard's
    coreset was ended early. Whether it was reached is not checked: that takes the shards.
    """
    name = "coresets"
    if strategy not in ("composable", "composable-epsilon"):
        return []
    coreset = facts.get("coreset")
    if not isinstance(coreset, Mapping):
        said = "the footer says nothing of the coresets, so not what factor they guarantee"
        return [skipped(name, f"not checked: {said}")]
    numbers = [coreset.get(key) for key in ("epsilon_reached", "shards_ended_early")]
    reached, early = (n if _is_number(n) else math.nan for n in numbers)
    if claims.factor is None or not agree(claims.factor, 2 + reached):
        return [
            failed(
                name,
                f"the factor must be 2 + the epsilon {coreset.get('epsilon_reached')!r} that the "
                f"footer says was reached; the certificate claims {claims.factor}",
            )
        ]
    wanted = coreset.get("epsilon_wanted")
    configured = selection_facts(facts).get("epsilon", wanted)
    if strategy == "composable-epsilon" and wanted != configured:
        said = f"epsilon must be {configured!r}, as configured; the coresets were for {wanted!r}"
        return [failed(name, said)]
    if _is_number(wanted) and not (reached <= wanted or agree(reached, wanted) or early > 0):
        return [
            failed(
                name,
                f"the epsilon reached must be at most {wanted}, as no shard's coreset was ended "
                f"early; it is {reached}",
            )
        ]
    said = "that the coresets reached it is not checked: that takes the shards"
    return [passed(name, f"factor 2 + {reached:.4g}; {said}")]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
