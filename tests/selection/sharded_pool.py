"""Rows cut into shards inside one process: what a strategy's own steps must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from balancer.selection.pool import ArrayPool
from balancer.types import FloatArray, IdArray, ShardRows

T = TypeVar("T")


class ShardedPool(ArrayPool):
    """An array pool whose `map_shards` sees shuffled shards of unequal sizes."""

    def __init__(self, points: FloatArray, ids: IdArray, num_shards: int) -> None:
        super().__init__(points, ids)
        rng = np.random.default_rng(num_shards)
        order = rng.permutation(len(ids))
        cuts = np.sort(rng.choice(np.arange(1, len(ids)), num_shards - 1, replace=False))
        self._shards = np.split(order, cuts)

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        """See `Pool`."""
        return [
            local(ShardRows(self.ids[rows], self.points[rows]), *arguments) for rows in self._shards
        ]
