"""Rows in shards of any sizes, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from balancer.clustering.kmeans import ArrayRows
from balancer.clustering.lloyd import PartialSums, Scale, local_sums, merge_sums
from balancer.selection.farthest_point import row_ids
from balancer.types import FloatArray, ShardRows

T = TypeVar("T")


class ShardedRows(ArrayRows):
    """The rows of an array in shards of any sizes."""

    def __init__(self, points: FloatArray, num_shards: int) -> None:
        super().__init__(points, row_ids(len(points)))
        owner = np.random.default_rng(num_shards).integers(0, num_shards, len(points))
        self.shards = [
            ShardRows(self.ids[owner == s], np.ascontiguousarray(points[owner == s]))
            for s in range(num_shards)
        ]

    def sums(self, centroids: FloatArray, scale: Scale) -> PartialSums:
        return merge_sums([local_sums(s.points, s.ids, centroids, scale) for s in self.shards])

    def map_shards(self, local: Callable[..., T], *arguments: object) -> list[T]:
        return [local(shard, *arguments) for shard in self.shards]
