"""Unit vectors in groups of unequal density, some of them twice."""

from __future__ import annotations

import numpy as np

from balancer.distances import l2_normalize
from balancer.types import FloatArray, IdArray


def near_rows(
    count: int = 600, dim: int = 8, *, seed: int = 0, spread: float = 0.3
) -> tuple[FloatArray, IdArray]:
    """Return rows and ids; the last twenty rows repeat the first."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    group = rng.geometric(0.15, count) % 20
    points = centres[group] + spread * rng.standard_normal((count, dim))
    points[-20:] = points[:20]
    ids = np.array([f"tile/{number:x}" for number in rng.permutation(count)])
    return l2_normalize(points.astype(np.float32)), ids
