"""What a pool and its workers tell each other, beside the core's own values."""

from __future__ import annotations

from dataclasses import dataclass, field

from balancer.selection.shard_bounds import EngineChoice
from balancer.selection.stratum_picks import PickPlan
from balancer.types import DoubleArray, FloatArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class Compute:
    """What a worker computes with; no result depends on it.

    Attributes:
        device: where rows are assigned to centroids.
        num_threads: of compiled loops; those of the process when absent.
        engine: of farthest-point's bounds; its `auto` is `device`.
    """

    device: str = "cpu"
    num_threads: int | None = None
    engine: EngineChoice = field(default_factory=EngineChoice)


@dataclass(frozen=True, slots=True)
class Behind:
    """Answer of a worker that lost its state: it has applied only this many picks."""

    num_applied: int


@dataclass(frozen=True, slots=True)
class Among:
    """The rows of one stratum: the plan, what its labels are kept under, and the stratum."""

    plan: PickPlan
    key: str
    stratum: int


@dataclass(frozen=True, slots=True)
class StratumRows:
    """The rows of some strata that one worker holds; `quality` is (0,) without one."""

    labels: IntArray
    ids: IdArray
    points: FloatArray
    quality: DoubleArray
