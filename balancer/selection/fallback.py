"""The rule that a round falls back to when its embedding must not be trusted with diverse picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from balancer.config import SelectionConfig, Strategy, Within
from balancer.selection.included import INCLUDE
from balancer.types import Selection

MARK = ":fallback"
"""What the reasons of such picks end with."""
NEEDS_HEALTH = (
    "selection.fallback needs the health of the encoder, which embeddings alone do not have. Leave "
    "it out, and choose the strategy."
)
"""Said where embeddings are selected from without a run."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another strategy for one round, and why.

    Attributes:
        strategy: used for the round.
        within: its rule inside a cluster, for `per-cluster`.
        instead_of: the configured strategy.
        because: what the health check found, as sentences.
    """

    strategy: Strategy
    within: Within
    instead_of: Strategy
    because: str

    def to_json(self) -> Mapping[str, Any]:
        """Return the record of it, for commits and footers."""
        return {
            "strategy": self.strategy,
            "within": self.within,
            "instead_of": self.instead_of,
            "because": self.because,
        }

    def describe(self) -> str:
        """Return one sentence for the log and the report."""
        inside = f" with {self.within} inside" if self.strategy == "per-cluster" else ""
        return (
            f"This round was selected by {self.strategy}{inside} (selection.fallback) instead of "
            f"{self.instead_of}, because diverse picks would be worse than random ones in this "
            f"embedding: {self.because}"
        )


def fallback_for(config: SelectionConfig, distrust: str) -> Fallback | None:
    """Return the fallback of a round, or None to select as configured.

    Args:
        config: of the selection.
        distrust: why the round's embedding must not be trusted; empty when it may be.

    >>> config = SelectionConfig(budget=5, strategy="farthest-point", fallback="per-cluster")
    >>> fallback_for(config, "") is None
    True
    >>> fallback_for(config, "It has collapsed.").strategy
    'per-cluster'
    """
    if config.fallback is None or not distrust:
        return None
    return Fallback(config.fallback, config.fallback_within, config.strategy, distrust)


def marked(selection: Selection) -> Selection:
    """Return the selection with `MARK` on every reason, but for tiles that had to be in.

    >>> texts = np.array(["a", "b"])
    >>> two = Selection(texts, texts, *(np.zeros(2),) * 3, np.array([INCLUDE, "random"]))
    >>> marked(two).reason.tolist()
    ['include', 'random:fallback']
    """
    reasons = [r if r == INCLUDE else f"{r}{MARK}" for r in selection.reason.tolist()]
    return replace(selection, reason=np.array(reasons))
