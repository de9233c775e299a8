"""Selection on arrays or shards: exact farthest-point, quotas per cluster, coresets, certificates.

Everything here works on arrays, without Ray, files or a run.
"""

from balancer.selection.arrays import select, select_certified
from balancer.selection.certificate import Certificate
from balancer.selection.certified import certify_selection
from balancer.selection.constraints import Constraints
from balancer.selection.farthest_point import FarthestPoints, farthest_point
from balancer.selection.quotas import water_filling
from balancer.selection.strategies import STRATEGIES

__all__ = [
    "STRATEGIES",
    "Certificate",
    "Constraints",
    "FarthestPoints",
    "certify_selection",
    "farthest_point",
    "select",
    "select_certified",
    "water_filling",
]
