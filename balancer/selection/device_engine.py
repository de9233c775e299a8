"""The lazy-bound engine with the rows and all their state on a torch device.

The bounds and their counters are those of `balancer.selection.bounds`, as tensors. A round takes
the rows whose bound is within a share of the radius, shows them the picks they have not seen,
newest first, and sends the best of those that stay to the CPU, which picks from them while none of
the rows left behind can be farther (`pick_loop.pick_offered`): hundreds of picks per round. Pairs
that the filter cannot rule out (`filters.near_pairs`) are measured canonically on the device, in
float64 and in the order of additions that `balancer.distances` fixes, so the bits are the same and
so are the picks, on any device and in any precision of the filter.
"""

from __future__ import annotations

import numpy as np
import torch

from balancer.distances import LARGEST_SQUARE, require_finite
from balancer.selection.bounds import DEFAULT, Options
from balancer.selection.cells import SAMPLE, sample_centroids
from balancer.selection.farthest_point import FarthestPoints
from balancer.selection.filters import Precision, near_pairs, require_device, require_precision
from balancer.selection.pick_loop import Rows, Stop, pick_offered
from balancer.types import FloatArray, IntArray

FIRST_WIDTH = 64
WIDTH = 1024
ROWS_PER_TILE = 1 << 15
WAVES = (64, 256, 1 << 31)
ENTRIES_PER_CHUNK = 1 << 24
"""Float64 numbers that one canonical step may take: 128 MiB each for two operands."""
ROOM = 2048
"""Rows sent to the CPU at once: few enough for its cache."""
LAST_RANK = np.iinfo(np.int64).max


def canonical_distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the canonical squared distances of pairs of rows: the bits of `squared_distance`.

    Args:
        left: (P, D) float32.
        right: (P, D) or (1, D) float32 on the same device.

    Returns:
        (P,) float32.

    Every product and every sum is an operation of its own, so nothing is fused into an
    instruction that rounds once, and the lanes are added in the order that the definition fixes.

    Cost: 24 P D bytes.

    >>> canonical_distances(torch.zeros(1, 3), torch.ones(1, 3))
    tensor([3.])
    """
    squares = left.double() - right.double()
    squares = squares * squares
    whole = squares.shape[1] - squares.shape[1] % 8
    lanes = torch.zeros((len(squares), 8), dtype=torch.float64, device=left.device)
    for j in range(0, whole, 8):
        lanes = lanes + squares[:, j : j + 8]
    tail = torch.zeros(len(squares), dtype=torch.float64, device=left.device)
    for j in range(whole, squares.shape[1]):
        tail = tail + squares[:, j]
    pairs = lanes[:, 0::2] + lanes[:, 1::2]
    low, high = pairs[:, 0] + pairs[:, 1], pairs[:, 2] + pairs[:, 3]
    return ((low + high) + tail).float()


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

    Memory on the device: the rows, 28 bytes per row (32 with qualities), 8 D per pick, and
        about 128 MiB for the filter.
    """

    def __init__(
        self,
        points: torch.Tensor | FloatArray,
        ranks: IntArray,
        capacity: int,
        options: Options = DEFAULT,
        *,
        device: str = "cpu",
        precision: Precision = "float32",
        room: int = ROOM,
    ) -> None:
        self._points = _moved(points, device)
        num_rows, dim = self._points.shape
        sample = self._points[:: max(1, num_rows // SAMPLE)][:SAMPLE].cpu().numpy()
        self._mean = torch.from_numpy(sample_centroids(sample, 0, cosine=False)[0]).to(device)
        self._ranks = torch.as_tensor(ranks).to(device)
        self._weights = (
            None if options.weights is None else torch.as_tensor(options.weights).to(device)
        )
        self._keys = torch.full((num_rows,), np.inf, device=device)
        if options.excluded is not None:
            self._keys[torch.as_tensor(options.excluded).to(device)] = -1
        self._norms = torch.empty(num_rows, device=device)
        for begin, end in self._chunks(num_rows):
            centred = (self._points[begin:end] - self._mean).double()
            self._norms[begin:end] = (centred * centred).sum(dim=1).float()
        self._old = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self._gap = torch.zeros_like(self._old)
        self._new = torch.zeros_like(self._old)
        self._picks = torch.empty((capacity, dim), device=device)
        self._centred = torch.empty_like(self._picks)
        self._pick_norms = torch.empty(capacity, device=device)
        self._precision = precision
        self._skip = options.skip
        self._room = room + options.skip
        self._share = 0.03
        self._radius = np.float32(np.inf)
        self.num_picks = 0
        self.num_pairs = 0
        self.num_rounds = 0
        self.picked: IntArray = np.full(capacity, -1, np.int64)
        self.squared: FloatArray = np.full(capacity, np.inf, np.float32)

    def add(self, vectors: torch.Tensor | FloatArray) -> None:
        """Record picks that are no rows here: (M, D) float32, normalised already if rows are."""
        self._append(torch.as_tensor(vectors).to(self._points.device))

    def take(self, row: int) -> None:
        """Make a row the next pick, whatever its distance."""
        if self.num_picks:
            rows = torch.tensor([row], device=self._points.device)
            self._catch_up(rows, np.float32(-1))
        self.squared[self.num_picks] = self._keys[row].item()
        self.picked[self.num_picks] = row
        self._keys[row] = -1
        self._append(self._points[row : row + 1])

    def run(self, limit: int) -> None:
        """Pick until there are `limit` picks; there are enough rows, and one pick at least."""
        while self.num_picks < limit:
            fresh, threshold = self._refresh(self._skip + 1)
            self._tune(len(fresh))
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

    def _chunks(self, count: int) -> list[tuple[int, int]]:
        size = max(1, ENTRIES_PER_CHUNK // self._points.shape[1])
        return [(begin, min(begin + size, count)) for begin in range(0, count, size)]

    def _append(self, vectors: torch.Tensor) -> None:
        """Record (M, D) picks; the first pick of all lowers every bound to a finite one."""
        begin, end = self.num_picks, self.num_picks + len(vectors)
        self._picks[begin:end] = vectors
        self._centred[begin:end] = vectors - self._mean
        wide = self._centred[begin:end].double()
        self._pick_norms[begin:end] = (wide * wide).sum(dim=1).float()
        self.num_picks = end
        if begin == 0:
            free = self._keys >= 0
            for low, high in self._chunks(len(self._points)):
                distances = canonical_distances(self._points[low:high], self._picks[:1])
                keys = self._weigh(distances, slice(low, high))
                self._keys[low:high] = torch.where(free[low:high], keys, self._keys[low:high])
            self._old[free] = self._gap[free] = self._new[free] = 1

    def _weigh(self, distances: torch.Tensor, rows: torch.Tensor | slice) -> torch.Tensor:
        """Return the canonical keys of squared distances: `bounds.weigh`."""
        if self._weights is None:
            return distances
        return (distances.double() * self._weights[rows].double()).float()

    def _refresh(self, count: int) -> tuple[torch.Tensor, np.float32]:
        """Catch up until `count` rows are fresh and at the threshold, if there are so many.

        Returns:
            Those rows, and the threshold that all other rows are below.
        """
        while True:
            largest = min(float(self._radius), float(self._keys.max()))
            threshold = np.float32(max(0.0, largest * (1 - self._share)))
            rows = torch.nonzero(self._keys >= float(threshold)).squeeze(1)
            fresh = self._catch_up(rows, threshold)
            if len(fresh) >= count or threshold == 0:
                return fresh, threshold
            # Too few rows are at the threshold: the next pick is below it.
            self._radius = min(self._radius, threshold)
            self._share = min(1.0, 1.5 * self._share)

    def _tune(self, count: int) -> None:
        """Steer the share of the radius towards as many fresh rows as the CPU takes."""
        factor = (self._room / max(1, count)) ** 0.5
        self._share = min(0.25, max(1e-4, self._share * min(1.5, max(1 / 3, factor))))

    def _best(self, fresh: torch.Tensor, threshold: np.float32, limit: int) -> tuple[Rows, Stop]:
        """Return the best `room` fresh rows on the CPU, and what no other row is above."""
        rank = LAST_RANK
        keys, ranks = self._keys[fresh], self._ranks[fresh]
        if len(fresh) > self._room:
            order = torch.argsort(ranks)
            order = order[torch.argsort(keys[order], descending=True, stable=True)][: self._room]
            fresh, keys, ranks = fresh[order], keys[order], ranks[order]
            threshold, rank = np.float32(keys[-1].item()), int(ranks[-1].item())
        weights = torch.ones_like(keys) if self._weights is None else self._weights[fresh]
        rows = Rows(
            self._points[fresh].cpu().numpy(),
            keys.cpu().numpy(),
            ranks.cpu().numpy(),
            weights.cpu().numpy(),
            fresh.cpu().numpy(),
        )
        return rows, Stop(threshold, rank, limit, self._skip)

    def _pick(self, rows: Rows, stop: Stop) -> None:
        """Pick from offered rows, and bring the keys of those left over back."""
        begin, count = self.num_picks, len(rows.keys)
        squared = np.empty(max(1, min(stop.limit, count)), np.float32)
        chosen = pick_offered(rows, stop, squared)
        end = begin + len(chosen)
        self.picked[begin:end] = chosen
        self.squared[begin:end] = squared[: len(chosen)]
        device = self._points.device
        taken = torch.from_numpy(chosen).to(device)
        self._append(self._points[taken])
        self._keys[taken] = -1
        # Those left over have been lowered by every pick; the first places hold them.
        left = torch.from_numpy(rows.numbers[: count - len(chosen)]).to(device)
        self._keys[left] = torch.from_numpy(rows.keys[: count - len(chosen)]).to(device)
        for seen in (self._old, self._gap, self._new):
            seen[left] = self.num_picks
        if len(chosen):
            self._radius = min(self._radius, self.squared[end - 1])

    def _catch_up(self, rows: torch.Tensor, threshold: np.float32) -> torch.Tensor:
        """Show rows the picks they miss; return those still at the threshold, now fresh."""
        for budget in WAVES:
            if budget != WAVES[0]:
                rows = rows[torch.argsort(self._old[rows], stable=True)]
            for begin in range(0, len(rows), ROWS_PER_TILE):
                self._show(rows[begin : begin + ROWS_PER_TILE], threshold, budget)
            rows = rows[self._keys[rows] >= float(threshold)]
            if len(rows) == 0 or int(self._old[rows].min()) == self.num_picks:
                break
        return rows

    def _show(self, rows: torch.Tensor, threshold: np.float32, budget: int) -> None:
        """Show one tile of rows the picks they have not seen, newest first.

        The counters change as in `catch_up.show_tiles`.
        """
        total, high, width = self.num_picks, self.num_picks, FIRST_WIDTH
        tile = self._points[rows] - self._mean
        joined = self._gap[rows] == self._old[rows]
        self._old[rows] = torch.where(joined, self._new[rows], self._old[rows])
        self._gap[rows] = torch.where(joined, self._new[rows], self._gap[rows])
        while len(rows):
            old, gap, new = self._old[rows], self._gap[rows], self._new[rows]
            top = torch.where(new < high, high, gap.clamp(max=high)).amax()
            high, bottom = torch.stack([top, old.amin().to(top.dtype)]).tolist()
            low = max(high - width, min(high, bottom))
            if high > low:
                self._lower(rows, tile, low, high)
                self.num_pairs += len(rows) * (high - low)
            budget -= high - low
            apart = gap != old
            done = low <= old
            leaves = ~done & (~apart | (low <= new))
            if budget > 0:
                leaves &= self._keys[rows] < float(threshold)
            first = torch.where(apart, gap.clamp(max=low), low)
            self._old[rows] = torch.where(done, total, old)
            self._gap[rows] = torch.where(done, total, torch.where(leaves, first, gap))
            self._new[rows] = torch.where(done | leaves, total, new)
            stay = torch.nonzero(~(done | leaves)).squeeze(1)
            if len(stay) < len(rows):
                rows, tile = rows[stay], tile[stay]
            high, width = low, min(WIDTH, 2 * width)

    def _lower(self, rows: torch.Tensor, tile: torch.Tensor, low: int, high: int) -> None:
        """Lower the keys of (R,) distinct rows by picks [low, high), canonically."""
        keys = self._keys[rows]
        limits = keys.double()
        if self._weights is not None:
            weights = self._weights[rows].double()
            limits = torch.where(weights > 0, limits / weights, 0.0)
        places, columns = near_pairs(
            tile,
            self._norms[rows],
            self._centred[low:high],
            self._pick_norms[low:high],
            limits,
            self._precision,
        )
        for begin, end in self._chunks(len(places)):
            near = places[begin:end]
            wanted = rows[near]
            distances = canonical_distances(
                self._points[wanted], self._picks[low + columns[begin:end]]
            )
            keys.scatter_reduce_(0, near, self._weigh(distances, wanted), "amin")
        self._keys[rows] = keys


def _moved(points: torch.Tensor | FloatArray, device: str) -> torch.Tensor:
    """Return the rows on a device, shared with the caller's where they lie there already."""
    if isinstance(points, torch.Tensor):
        return points.to(device).contiguous()
    rows = np.asarray(points)
    if rows.flags.writeable:
        return torch.from_numpy(rows).to(device).contiguous()
    # Torch does not share memory that it may not write, such as a map of a file: copy by chunks.
    moved = torch.from_numpy(np.empty((0, *rows.shape[1:]), rows.dtype)).to(device)
    moved = moved.new_empty(rows.shape)
    size = max(1, ENTRIES_PER_CHUNK // max(1, rows[:1].size))
    for begin in range(0, len(rows), size):
        moved[begin : begin + size] = torch.from_numpy(rows[begin : begin + size].copy())
    return moved


def farthest_point_on_device(
    points: torch.Tensor | FloatArray,
    num_picks: int,
    *,
    first: int = 0,
    device: str,
    precision: Precision = "float32",
) -> FarthestPoints:
    """Pick `num_picks` rows, each the farthest from the picks so far, on a torch device.

    The picks are those of `farthest_point(points, num_picks, first=first)`; ties go to the lowest
    row. `farthest_point(..., device=device)` has all its options too.

    Args:
        points: (N, D), finite, anywhere; taken as float32, and copied only to move or convert it.
        num_picks: how many, the first counted.
        first: row to start from.
        device: `cuda`, `cuda:1`, `cpu`, ...
        precision: of the filter: `float32`, `tf32` or `bfloat16`.

    Raises:
        ValueError: more picks than rows, a row that is not finite, a row number out of range.
        ConfigError: torch has no such device here.

    >>> farthest_point_on_device(torch.tensor([[0.0], [1.0], [9.0]]), 2, device="cpu").indices
    array([0, 2])
    """
    require_device(device)
    require_precision(precision)
    values = points if isinstance(points, torch.Tensor) else _moved(points, "cpu")
    values = values.detach().to(dtype=torch.float32).contiguous()
    if values.ndim != 2:
        raise ValueError(f"points must be a matrix (N, D); got shape {tuple(values.shape)}.")
    count = len(values)
    if not 1 <= num_picks <= count:
        raise ValueError(
            f"num_picks must lie between 1 and the {count} rows that can be picked; got "
            f"{num_picks}."
        )
    if not 0 <= first < count:
        raise ValueError(f"first must be a row number below {count}; got {first}.")
    _require_finite(values)
    bounds = DeviceBounds(values, np.arange(count), num_picks, device=device, precision=precision)
    bounds.take(first)
    bounds.run(num_picks)
    _, squared, row = bounds.outliers()
    return FarthestPoints(
        bounds.picked,
        np.sqrt(bounds.squared),
        float(np.sqrt(squared)),
        row,
        np.empty(0, np.int64),
    )


def _require_finite(values: torch.Tensor) -> None:
    """Refuse rows that have no place among distances; those on a device are read there."""
    size = max(1, ENTRIES_PER_CHUNK // values.shape[1])
    for begin in range(0, len(values), size):
        block = values[begin : begin + size]
        # Also true for NaN, which is not below anything.
        if not bool(((block.double() ** 2).sum(dim=1) <= LARGEST_SQUARE).all()):
            require_finite(values.cpu().numpy(), None, nonzero=False)
