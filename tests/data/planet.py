"""Planet's real label file, where the machine has it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from balancer.imbalance.labels import LabelTable
from balancer.storage.filesystem import Store
from balancer.storage.label_tables import read_labels

PLANET_CSV = Path(__file__).parents[3] / "shared" / "data" / "planet" / "train_v2.csv"

needs_planet = pytest.mark.skipif(
    not PLANET_CSV.exists(), reason=f"Planet's train_v2.csv is not at {PLANET_CSV}"
)


@cache
def planet_labels() -> LabelTable:
    return read_labels(Store(), str(PLANET_CSV))
