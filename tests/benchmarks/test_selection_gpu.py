"""The device engine against the memory roofline of the plain scan on the same GPU.

pytest tests/benchmarks -m "" -s -k gpu
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from balancer.selection.device_engine import DeviceBounds
from balancer.selection.device_tensors import canonical_distances
from balancer.selection.filter_errors import Precision
from balancer.types import IntArray
from tests.benchmarks.measuring import PAIRS, print_table, scaled
from tests.benchmarks.selection_data import DIM, NUM_CLUSTERS

ROWS, PICKS = scaled(10_000_000, 5000), scaled(10_000, 50)
EXACT_PICKS = 200
ROWS_PER_CHUNK = 1 << 18
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def zipf_clusters_on_device(count: int) -> torch.Tensor:
    """Return rows like `selection_data.zipf_clusters`, made on the device."""
    draw = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=draw)

    share = torch.arange(1, NUM_CLUSTERS + 1, device="cuda").double() ** -1.2
    centres = normal(NUM_CLUSTERS, DIM) / DIM**0.5
    spread = torch.empty(NUM_CLUSTERS, device="cuda").uniform_(0, 1, generator=draw)
    spread = 0.02 * 30**spread
    spread[:20] = spread[:20].clamp(max=0.15)
    bases = normal(NUM_CLUSTERS, 10, DIM) * spread[:, None, None] / (10 * DIM) ** 0.5
    points = torch.empty(count, DIM, device="cuda")
    for start in range(0, count, ROWS_PER_CHUNK):
        part = points[start : start + ROWS_PER_CHUNK]
        labels = torch.multinomial(share, len(part), replacement=True, generator=draw)
        inside = torch.bmm(normal(len(part), 1, 10), bases[labels])[:, 0]
        rows = centres[labels] + inside + normal(len(part), DIM) * (0.02 / DIM**0.5)
        part.copy_(rows / rows.norm(dim=1, keepdim=True))
    return points


def seconds(run: Callable[[], object], times: int) -> float:
    """Return the median time of a run on the device, after one that does not count."""
    found = []
    for _ in range(times + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def plain_picks(points: torch.Tensor, num_picks: int) -> list[int]:
    """Return the plain scan's picks, in canonical distances."""
    nearest = torch.full((len(points),), torch.inf, device=points.device)
    picks, row = [], 0
    for _ in range(num_picks):
        picks.append(row)
        for start in range(0, len(points), ROWS_PER_CHUNK):
            part = nearest[start : start + ROWS_PER_CHUNK]
            new = canonical_distances(points[start : start + ROWS_PER_CHUNK], points[[row]])
            torch.minimum(part, new, out=part)
        nearest[picks] = -1
        # argmax names any of several equal rows; the first is the pick.
        row = int((nearest == nearest.max()).nonzero()[0])
    return picks


def test_gpu_engine_against_the_roofline() -> None:
    points = zipf_clusters_on_device(ROWS)
    ranks = np.arange(ROWS)
    bandwidth = points.nbytes / seconds(points.amax, 20)
    # The plain scan reads every row once per pick, and reads and writes its distance.
    roofline = PICKS * (points.nbytes + 8 * ROWS) / bandwidth
    norms, nearest = points.pow(2).sum(1), torch.full((ROWS,), torch.inf, device="cuda")

    def scan() -> int:
        torch.minimum(nearest, norms - 2 * torch.mv(points, points[0]) + norms[0], out=nearest)
        return int(nearest.argmax())

    torch_scan = PICKS * seconds(scan, 20)
    expected = plain_picks(points, min(PICKS, EXACT_PICKS))
    picked: list[IntArray] = []
    rows: list[list[object]] = []
    for precision in PRECISIONS:
        pairs: list[float] = []

        def run(precision: Precision = precision, pairs: list[float] = pairs) -> None:
            bounds = DeviceBounds(points, ranks, PICKS, device="cuda", precision=precision)
            bounds.take(0)
            bounds.run(PICKS)
            picked.append(bounds.picked)
            pairs.append(bounds.num_pairs / (ROWS * PICKS))

        wall = seconds(run, PAIRS)
        np.testing.assert_array_equal(picked[-1], picked[0])
        ratios = [f"x{roofline / wall:.1f}", f"x{torch_scan / wall:.1f}"]
        rows.append([precision, wall, 1e3 * wall / PICKS, f"{pairs[-1]:.1%}", *ratios])
    assert picked[0][: len(expected)].tolist() == expected
    print_table(
        f"{torch.cuda.get_device_name()}, Zipf clusters, {ROWS} x {DIM}, n = {PICKS}, medians of "
        f"{PAIRS}; reads {bandwidth / 1e12:.2f} TB/s, so the plain scan's roofline is "
        f"{1e3 * roofline / PICKS:.2f} ms per pick; torch mv scan {1e3 * torch_scan / PICKS:.2f}",
        ["filter", "wall s", "ms per pick", "pairs measured", "over the roofline", "over torch mv"],
        rows,
    )
