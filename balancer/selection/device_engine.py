"""The lazy-bound engine with the rows and all their state on a torch device.

A round takes the rows whose bound is within a share of the radius, shows them the picks they have
not seen (`device_catch_up`), and sends the best of those that stay to the CPU, which picks from
them while none of the rows left behind can be farther (`pick_loop.pick_offered`): hundreds of picks
per round. Distances are decided canonically on the device, in float64 and in the order of additions
that `balancer.distances` fixes, so the bits are the same and so are the picks, on any device and
in any precision of the filter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from balancer.errors import ConfigError
from balancer.selection.bounds import DEFAULT, Options
from balancer.selection.device_catch_up import DeviceCatchUp
from balancer.selection.device_state import DeviceState
from balancer.selection.fastest_kernel import choose_kernel
from balancer.selection.filter_errors import Precision
from balancer.selection.pick_loop import Rows, Stop, pick_offered
from balancer.selection.torch_device import Kernel, require_kernel
from balancer.types import FloatArray, IntArray

ROOM = 2048
"""Rows sent to the CPU at once: few enough for its cache."""
LAST_RANK = np.iinfo(np.int64).max


class DeviceBounds:
    """Rows with their bounds on a device, and the picks made so far; as `engine.LazyBounds`.

    Args:
        points: (N, D) float32, finite, L2-normalised already where the metric is the cosine.
        ranks: (N,) int64 order of the ids, for ties.
        capacity: how many picks there will be at most, those of `add` included.
        options: quality, exclusions, outliers.
        device: any that torch has.
        precision: of the filter's product; never changes a pick.
        room: rows sent to the CPU at once.
        kernel: what the filter computes with (`torch_filter`); `fastest` measures it where a
            selection is large enough. Never changes a pick.

    Raises:
        ConfigError: the rows do not fit on the device; the kernel is not there.

    Memory on the device: that of `DeviceState`, and about 128 MiB for the filter.
    """

    def __init__(  # noqa: PLR0913 - a public class spells its options out
        self,
        points: torch.Tensor | FloatArray,
        ranks: IntArray,
        capacity: int,
        options: Options = DEFAULT,
        *,
        device: str = "cpu",
        precision: Precision = "float32",
        room: int = ROOM,
        kernel: Kernel | Literal["fastest"] = "fastest",
    ) -> None:
        num_rows, dim = points.shape
        try:
            self.state = DeviceState(points, ranks, capacity, options, device)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"The rows must fit on the device {device}, with 28 bytes each beside; {num_rows} "
                f"rows of {dim} columns do not. Spread them over more workers, or select on the "
                f"CPU (device cpu), which picks the same."
            ) from error
        if kernel == "fastest":
            kernel = choose_kernel(device, dim, precision, num_rows * capacity)
        require_kernel(kernel, device)
        self._catch_up = DeviceCatchUp(self.state, precision, kernel)
        self._skip = options.skip
        self._room = room + options.skip
        self._share = 0.03
        self._radius = np.float32(np.inf)
        self.num_rounds = 0
        self.picked: IntArray = np.full(capacity, -1, np.int64)
        self.squared: FloatArray = np.full(capacity, np.inf, np.float32)

    @property
    def num_picks(self) -> int:
        """Picks made so far."""
        return self.state.num_picks

    @property
    def num_pairs(self) -> int:
        """Pairs of rows and picks that the filter has seen."""
        return self.state.num_pairs

    @property
    def kernel(self) -> Kernel:
        """What the filter computes with."""
        return self._catch_up.kernel

    def add(self, vectors: torch.Tensor | FloatArray) -> None:
        """Record picks that are no rows here: (M, D) float32, normalised already if rows are.

        Raises:
            ValueError: more picks than `capacity`.
        """
        self.state.append(torch.as_tensor(vectors).to(self.state.points.device))

    def take(self, row: int) -> None:
        """Make a row the next pick, whatever its distance."""
        state, number = self.state, self.num_picks
        if number:
            rows = torch.tensor([row], device=state.points.device)
            self._catch_up.catch_up(rows, np.float32(-1))
        self.squared[number] = state.keys[row].item()
        self.picked[number] = row
        state.keys[row] = -1
        state.append(state.points[row : row + 1])

    def run(self, limit: int) -> None:
        """Pick until there are `limit` picks; there are enough rows, and one pick at least."""
        while self.num_picks < limit:
            fresh, threshold = self._refresh(self._skip + 1)
            self._tune(len(fresh), self._room)
            offered, stop = self._best(fresh, threshold, limit - self.num_picks)
            self._pick(offered, stop)
            self.num_rounds += 1

    def outliers(self) -> tuple[IntArray, float, int]:
        """Return the `skip` farthest rows, and the squared radius of the rest with its row.

        The row is -1 and the radius 0 when no other row is left.
        """
        fresh, threshold = self._refresh(self._skip + 1)
        offered, _ = self._best(fresh, threshold, 0)
        order = np.lexsort((offered.ranks, -offered.keys))
        left = offered.numbers[order]
        if len(left) <= self._skip:
            return left, 0.0, -1
        row = order[self._skip]
        return left[: self._skip], float(offered.keys[row]), int(offered.numbers[row])

    def leave_out(self, rows: IntArray) -> None:
        """Never offer these rows: they are picked, or must not be."""
        self.state.keys[torch.from_numpy(rows).to(self.state.points.device)] = -1

    def offer(self, room: int) -> tuple[Rows, float, int]:
        """Return the best `room` rows, exact; see `balancer.selection.shard_bounds`."""
        keys = self.state.keys
        fresh, _ = self._refresh(room)
        self._tune(len(fresh), 2 * room)
        best = self._farthest(fresh, room)
        rows = self._gathered(best)
        kept = keys[best]
        keys[best] = -1
        held = keys.max()
        tied = torch.nonzero(keys == held).squeeze(1)
        held_row = int(tied[self.state.ranks[tied].argmin()])
        keys[best] = kept
        return rows, float(held), held_row

    def _refresh(self, count: int) -> tuple[torch.Tensor, np.float32]:
        """Catch up until `count` rows are fresh and at the threshold, if there are so many.

        Returns:
            Those rows, and the threshold that all other rows are below.
        """
        keys = self.state.keys
        while True:
            largest = min(float(self._radius), float(keys.max()))
            threshold = np.float32(max(0.0, largest * (1 - self._share)))
            rows = torch.nonzero(keys >= float(threshold)).squeeze(1)
            fresh = self._catch_up.catch_up(rows, threshold)
            if len(fresh) >= count or threshold == 0:
                return fresh, threshold
            # Too few rows are at the threshold: look further down.
            self._radius = min(self._radius, threshold)
            self._share = min(1.0, 1.5 * self._share)

    def _tune(self, count: int, wanted: int) -> None:
        """Steer the share of the radius towards the wanted number of fresh rows."""
        factor = (wanted / max(1, count)) ** 0.5
        self._share = min(0.25, max(1e-4, self._share * min(1.5, max(1 / 3, factor))))

    def _farthest(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Return the farthest `count` rows, farthest first, ties by rank."""
        order = torch.argsort(self.state.ranks[rows])
        order = order[torch.argsort(self.state.keys[rows][order], descending=True, stable=True)]
        return rows[order[:count]]

    def _gathered(self, rows: torch.Tensor) -> Rows:
        """Return rows on the CPU."""
        state = self.state
        keys = state.keys[rows]
        weights = torch.ones_like(keys) if state.weights is None else state.weights[rows]
        return Rows(
            state.points[rows].cpu().numpy(),
            keys.cpu().numpy(),
            state.ranks[rows].cpu().numpy(),
            weights.cpu().numpy(),
            rows.cpu().numpy(),
        )

    def _best(self, fresh: torch.Tensor, threshold: np.float32, limit: int) -> tuple[Rows, Stop]:
        """Return the best `room` fresh rows on the CPU, and what no other row is above."""
        many = len(fresh) > self._room
        rows = self._gathered(self._farthest(fresh, self._room) if many else fresh)
        rank = LAST_RANK
        if many:
            threshold, rank = rows.keys[-1], int(rows.ranks[-1])
        return rows, Stop(threshold, rank, limit, self._skip)

    def _pick(self, rows: Rows, stop: Stop) -> None:
        """Pick from offered rows, and bring the keys of those left over back."""
        state = self.state
        begin, count = self.num_picks, len(rows.keys)
        squared = np.empty(max(1, min(stop.limit, count)), np.float32)
        chosen = pick_offered(rows, stop, squared)
        end = begin + len(chosen)
        self.picked[begin:end] = chosen
        self.squared[begin:end] = squared[: len(chosen)]
        device = state.points.device
        taken = torch.from_numpy(chosen).to(device)
        state.append(state.points[taken])
        state.keys[taken] = -1
        # Those left over have been lowered by every pick; the first places hold them.
        left = torch.from_numpy(rows.numbers[: count - len(chosen)]).to(device)
        state.keys[left] = torch.from_numpy(rows.keys[: count - len(chosen)]).to(device)
        for seen in (state.old, state.gap, state.new):
            seen[left] = self.num_picks
        if len(chosen):
            self._radius = min(self._radius, self.squared[end - 1])
