"""Balance an unlabeled archive of satellite tiles: embed, cluster, select, repeat.

The public names load on first use, so that `import balancer` is quick and needs no Ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from balancer.version import __version__

if TYPE_CHECKING:
    from balancer.config import Config, SelectionConfig
    from balancer.config_file import build_config, load_config
    from balancer.rounds.runner import run_rounds
    from balancer.selection import farthest_point, select, select_certified

_HOMES = {
    "Config": "balancer.config",
    "SelectionConfig": "balancer.config",
    "build_config": "balancer.config_file",
    "farthest_point": "balancer.selection",
    "load_config": "balancer.config_file",
    "run_rounds": "balancer.rounds.runner",
    "select": "balancer.selection",
    "select_certified": "balancer.selection",
}

__all__ = [
    "Config",
    "SelectionConfig",
    "__version__",
    "build_config",
    "farthest_point",
    "load_config",
    "run_rounds",
    "select",
    "select_certified",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'balancer' has no attribute {name!r}")
