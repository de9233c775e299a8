"""Selection: farthest-point, per-cluster, random and hybrid picking, on arrays or shards."""

from balancer.selection.arrays import select
from balancer.selection.farthest_point import FarthestPoints, farthest_point
from balancer.selection.quotas import water_filling
from balancer.selection.strategies import STRATEGIES

__all__ = ["STRATEGIES", "FarthestPoints", "farthest_point", "select", "water_filling"]
