"""Catching rows on a device up with the picks they have not seen; as `catch_up` on the CPU.

The newest picks come first, and rows leave as soon as they fall below the threshold. Pairs that the
filter cannot rule out (`torch_filter.near_pairs`) are measured canonically on the device.
"""

from __future__ import annotations

import numpy as np
import torch

from balancer.selection.device_state import DeviceState
from balancer.selection.device_tensors import canonical_distances, chunks
from balancer.selection.filter_errors import Precision
from balancer.selection.torch_device import Kernel
from balancer.selection.torch_filter import near_pairs

FIRST_WIDTH = 64
WIDTH = 1024
ROWS_PER_TILE = 1 << 15
WAVES = (64, 256, 1 << 31)


class DeviceCatchUp:
    """Lowers the bounds of a state's rows.

    Args:
        state: changes in place.
        precision: of the filter's product.
        kernel: what the filter computes with. Neither ever changes a pick.
    """

    def __init__(self, state: DeviceState, precision: Precision, kernel: Kernel) -> None:
        self._state = state
        self.precision: Precision = precision
        self.kernel: Kernel = kernel

    def catch_up(self, rows: torch.Tensor, threshold: np.float32) -> torch.Tensor:
        """Show rows the picks they miss; return those still at the threshold, now fresh."""
        state = self._state
        for budget in WAVES:
            if budget != WAVES[0]:
                rows = rows[torch.argsort(state.old[rows], stable=True)]
            for begin in range(0, len(rows), ROWS_PER_TILE):
                self._show(rows[begin : begin + ROWS_PER_TILE], threshold, budget)
            rows = rows[state.keys[rows] >= float(threshold)]
            if len(rows) == 0 or int(state.old[rows].min()) == state.num_picks:
                break
        return rows

    def _show(self, rows: torch.Tensor, threshold: np.float32, budget: int) -> None:
        """Show one tile of rows the picks they have not seen, newest first.

        The counters change as in `catch_up.show_tiles`.
        """
        state = self._state
        total, high, width = state.num_picks, state.num_picks, FIRST_WIDTH
        tile = state.points[rows] - state.mean
        joined = state.gap[rows] == state.old[rows]
        state.old[rows] = torch.where(joined, state.new[rows], state.old[rows])
        state.gap[rows] = torch.where(joined, state.new[rows], state.gap[rows])
        while len(rows):
            old, gap, new = state.old[rows], state.gap[rows], state.new[rows]
            top = torch.where(new < high, high, gap.clamp(max=high)).amax()
            high, bottom = torch.stack([top, old.amin().to(top.dtype)]).tolist()
            low = max(high - width, min(high, bottom))
            if high > low:
                self._lower(rows, tile, low, high)
                state.num_pairs += len(rows) * (high - low)
            budget -= high - low
            apart = gap != old
            done = low <= old
            leaves = ~done & (~apart | (low <= new))
            if budget > 0:
                leaves &= state.keys[rows] < float(threshold)
            first = torch.where(apart, gap.clamp(max=low), low)
            state.old[rows] = torch.where(done, total, old)
            state.gap[rows] = torch.where(done, total, torch.where(leaves, first, gap))
            state.new[rows] = torch.where(done | leaves, total, new)
            stay = torch.nonzero(~(done | leaves)).squeeze(1)
            if len(stay) < len(rows):
                rows, tile = rows[stay], tile[stay]
            high, width = low, min(WIDTH, 2 * width)

    def _lower(self, rows: torch.Tensor, tile: torch.Tensor, low: int, high: int) -> None:
        """Lower the keys of (R,) distinct rows by picks [low, high), canonically."""
        state = self._state
        keys = state.keys[rows]
        limits = keys.double()
        if state.weights is not None:
            weights = state.weights[rows].double()
            limits = torch.where(weights > 0, limits / weights, 0.0)
        places, columns = near_pairs(
            tile,
            state.norms[rows],
            state.centred[low:high],
            state.pick_norms[low:high],
            limits,
            self.precision,
            self.kernel,
        )
        for begin, end in chunks(len(places), tile.shape[1]):
            near = places[begin:end]
            wanted = rows[near]
            distances = canonical_distances(
                state.points[wanted], state.picks[low + columns[begin:end]]
            )
            keys.scatter_reduce_(0, near, state.weigh(distances, wanted), "amin")
        state.keys[rows] = keys
