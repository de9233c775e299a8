"""The rows of a selection with their bounds, and the picks, as tensors on one device.

The bounds and their counters are those of `balancer.selection.bounds`.
"""

from __future__ import annotations

import numpy as np
import torch

from balancer.selection.bounds import Options
from balancer.selection.cells import SAMPLE, sample_centroids
from balancer.selection.device_tensors import canonical_distances, chunks, moved
from balancer.types import FloatArray, IntArray


class DeviceState:
    """Rows, bounds and picks: N rows, D columns, room for C picks.

    Args:
        points: (N, D) float32, finite, L2-normalised already where the metric is the cosine.
        ranks: (N,) int64 order of the ids, for ties.
        capacity: C.
        options: quality and exclusions.
        device: any that torch has.

    Attributes:
        points: (N, D) float32.
        mean: (D,) float32, subtracted before a filter sees a row.
        norms: (N,) float32 squared length of the centred rows.
        weights: (N,) float32 squared quality, or None.
        ranks: (N,) int64.
        keys: (N,) float32 upper bound of weight * squared distance; -1 once taken or excluded.
        old, gap, new: (N,) int32, see `balancer.selection.bounds`.
        picks, centred: (C, D) float32 vectors of the picks, and less the mean.
        pick_norms: (C,) float32 squared length of the centred picks.
        num_picks: made so far.
        num_pairs: pairs of rows and picks that a filter has seen.

    Memory on the device: the rows, 28 bytes per row (32 with qualities), 8 D per pick.
    """

    def __init__(
        self,
        points: torch.Tensor | FloatArray,
        ranks: IntArray,
        capacity: int,
        options: Options,
        device: str,
    ) -> None:
        self.points = moved(points, device)
        num_rows, dim = self.points.shape
        sample = self.points[:: max(1, num_rows // SAMPLE)][:SAMPLE].cpu().numpy()
        self.mean = torch.from_numpy(sample_centroids(sample, 0, cosine=False)[0]).to(device)
        self.ranks = torch.as_tensor(ranks).to(device)
        self.weights = (
            None if options.weights is None else torch.as_tensor(options.weights).to(device)
        )
        self.keys = torch.full((num_rows,), np.inf, device=device)
        if options.excluded is not None:
            self.keys[torch.as_tensor(options.excluded).to(device)] = -1
        self.norms = torch.empty(num_rows, device=device)
        for begin, end in chunks(num_rows, dim):
            wide = (self.points[begin:end] - self.mean).double()
            self.norms[begin:end] = (wide * wide).sum(dim=1).float()
        self.old = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self.gap = torch.zeros_like(self.old)
        self.new = torch.zeros_like(self.old)
        self.picks = torch.empty((capacity, dim), device=device)
        self.centred = torch.empty_like(self.picks)
        self.pick_norms = torch.empty(capacity, device=device)
        self.num_picks = 0
        self.num_pairs = 0

    def append(self, vectors: torch.Tensor) -> None:
        """Record (M, D) picks; the first pick of all lowers every bound to a finite one.

        Raises:
            ValueError: more picks than the capacity.
        """
        begin, end = self.num_picks, self.num_picks + len(vectors)
        if end > len(self.picks):
            raise ValueError(
                f"There must be at most {len(self.picks)} picks, the capacity; got {end}. "
                f"Make room for all picks, those made elsewhere included."
            )
        self.picks[begin:end] = vectors
        self.centred[begin:end] = vectors - self.mean
        wide = self.centred[begin:end].double()
        self.pick_norms[begin:end] = (wide * wide).sum(dim=1).float()
        self.num_picks = end
        if begin == 0 and end:
            self._see_first()

    def _see_first(self) -> None:
        free = self.keys >= 0
        for low, high in chunks(*self.points.shape):
            distances = canonical_distances(self.points[low:high], self.picks[:1])
            keys = self.weigh(distances, slice(low, high))
            self.keys[low:high] = torch.where(free[low:high], keys, self.keys[low:high])
        self.old[free] = self.gap[free] = self.new[free] = 1

    def weigh(self, distances: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
        """Return the canonical keys of squared distances: `bounds.weigh`."""
        if self.weights is None:
            return distances
        return (distances.double() * self.weights[rows].double()).float()
