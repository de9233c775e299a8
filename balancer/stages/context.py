"""What every stage is given beside its inputs."""

from __future__ import annotations

from dataclasses import dataclass

from balancer.config import Config
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tile_lists import NO_LISTS, TileLists


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run: its configuration, its records, where it reports, and the lists it was given."""

    config: Config
    store: Store
    ledger: Ledger
    reporter: Reporter
    lists: TileLists = NO_LISTS

    def round_name(self, index: int) -> str:
        """Return the folder of a round."""
        return f"round-{index:03d}"
