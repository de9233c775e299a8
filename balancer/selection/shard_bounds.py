"""Which engine keeps a shard's bounds: the compiled one on the CPU, or torch's on a device.

Both offer the same rows, exact, so a selection over shards picks the same whatever each shard
uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from balancer.config import SelectionConfig
from balancer.errors import ConfigError
from balancer.selection.bounds import DEFAULT, Options
from balancer.selection.engine import LazyBounds
from balancer.selection.farthest_point import on_device
from balancer.selection.filters import BLAS, FASTEST, fastest_filter, new_filter
from balancer.selection.pick_loop import Rows
from balancer.types import FloatArray, IntArray

AUTO, CPU = "auto", "cpu"


class ShardBounds(Protocol):
    """A shard's rows with their bounds, told of picks made anywhere."""

    @property
    def num_picks(self) -> int:
        """Picks told of."""

    def add(self, vectors: FloatArray) -> None:
        """Record picks: (M, D) float32; at most as many as the capacity in all."""

    def leave_out(self, rows: IntArray) -> None:
        """Never offer these rows: they are picked."""

    def offer(self, room: int) -> tuple[Rows, float, int]:
        """Return the best `room` rows after all picks, and what is kept back.

        Returns:
            The rows, farthest first, with exact keys, ties by rank; the greatest bound of the
            others, -1 when there are none; and the row of lowest rank at that bound.
        """


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What a shard's bounds are kept with; never changes a pick.

    Attributes:
        device: `auto`, `cpu` (compiled), or a torch device such as `cuda`.
        filter: what catches rows up on a CPU: `blas`, `fastest`, or a name of
            `balancer.selection.filters.FILTERS`. A device has its own.
    """

    device: str = AUTO
    filter: str = BLAS

    @classmethod
    def of(cls, config: SelectionConfig) -> EngineChoice:
        """Take the choice from a configuration."""
        return cls(config.device, config.filter)

    def on(self, device: str) -> EngineChoice:
        """Return the choice where `auto` is a worker's device.

        With a filter other than `blas`, `auto` is the CPU, which alone can use it.

        >>> EngineChoice().on("cuda").device, EngineChoice(filter="faiss").on("cuda").device
        ('cuda', 'cpu')
        >>> EngineChoice("cpu").on("cuda").device
        'cpu'
        """
        if self.device != AUTO:
            return self
        return EngineChoice(device if self.filter == BLAS else CPU, self.filter)

    def bounds(
        self, points: FloatArray, ranks: IntArray, capacity: int, options: Options = DEFAULT
    ) -> ShardBounds:
        """Return the bounds of rows that have seen no pick.

        Args:
            points: (N, D) float32, validated; N >= 1.
            ranks: (N,) int64 order of the ids, for ties.
            capacity: picks there will be in all.
            options: metric, quality and exclusions; excluded rows may hold anything.

        Raises:
            ConfigError: a device or filter that cannot be used here, or both.
            ValueError: an unknown filter.

        >>> import numpy as np
        >>> line = np.array([[0.0], [1.0], [9.0]], np.float32)
        >>> bounds = EngineChoice().bounds(line, np.arange(3), 2)
        >>> bounds.add(line[:1])
        >>> rows, held, row = bounds.offer(1)
        >>> rows.numbers, rows.keys, held, row
        (array([2]), array([81.], dtype=float32), 1.0, 1)
        """
        if self.device in (AUTO, CPU):
            name = fastest_filter(points.shape[1]) if self.filter == FASTEST else self.filter
            return LazyBounds(points, ranks, capacity, options, filter=new_filter(name))
        if self.filter != BLAS:
            raise ConfigError(
                f"A filter is for the CPU, because a device has its own; got the filter "
                f"{self.filter!r} and the device {self.device!r}. Leave one of them out."
            )
        return on_device(points, ranks, capacity, options, self.device)


ON_CPU = EngineChoice(CPU)
"""The compiled engine and filter, on any machine."""
