"""Processes that compute nothing with torch do not load it: 0.4 GiB each."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = [
    # what the driver loads
    "balancer.rounds.runner",
    "balancer.stages.holdout",
    # what actors and tasks load, Ray Train's own included
    "balancer.stages.catalog",
    "balancer.stages.pool_worker",
    "balancer.stages.progress_board",
    "balancer.stages.remote_driver",
    "balancer.stages.training_job",
    "balancer.stages.training_tiles",
]
HEAVY = {"torch", "torchvision", "lightly", "timm", "sklearn", "matplotlib"}
PROGRAM = "import sys, {module}; print(*sys.modules)"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_no_torch(module: str) -> None:
    code = PROGRAM.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & HEAVY
