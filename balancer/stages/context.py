"""What every stage is given beside its inputs."""

from __future__ import annotations

from dataclasses import dataclass

from balancer.config import Config
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run: its configuration, its records, and where it reports."""

    config: Config
    store: Store
    ledger: Ledger
    reporter: Reporter

    def round_name(self, index: int) -> str:
        """Return the folder of a round."""
        return f"round-{index:03d}"
