"""The device engine against the memory roofline of the plain scan on the same device.

pytest tests/benchmarks -m "" -s -k gpu

Without a GPU it runs on CPU tensors, to show that it works: BENCH_SCALE=0.001 is 10,000 rows.
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
from balancer.selection.fastest_kernel import fastest_kernel
from balancer.selection.filter_errors import Precision
from balancer.selection.torch_device import Kernel, has_triton
from balancer.types import IntArray
from tests.benchmarks.measuring import PAIRS, SCALE, print_table, scaled
from tests.benchmarks.selection_data import DIM, NUM_CLUSTERS

ROWS, PICKS = scaled(10_000_000, 5000), scaled(10_000, 50)
EXACT_PICKS = 200
ROWS_PER_CHUNK = 1 << 18
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
KERNELS: tuple[Kernel, ...] = ("torch", "triton") if ON_GPU and has_triton() else ("torch",)
LARGEST_ON_CPU = 0.01

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not ON_GPU and SCALE > LARGEST_ON_CPU,
        reason=f"torch finds no CUDA device; BENCH_SCALE up to {LARGEST_ON_CPU} runs without one",
    ),
]


def zipf_clusters_on_device(count: int) -> torch.Tensor:
    """Return rows like `selection_data.zipf_clusters`, made on the device."""
    draw = torch.Generator(DEVICE).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=DEVICE, generator=draw)

    share = torch.arange(1, NUM_CLUSTERS + 1, device=DEVICE).double() ** -1.2
    centres = normal(NUM_CLUSTERS, DIM) / DIM**0.5
    spread = torch.empty(NUM_CLUSTERS, device=DEVICE).uniform_(0, 1, generator=draw)
    spread = 0.02 * 30**spread
    spread[:20] = spread[:20].clamp(max=0.15)
    bases = normal(NUM_CLUSTERS, 10, DIM) * spread[:, None, None] / (10 * DIM) ** 0.5
    points = torch.empty(count, DIM, device=DEVICE)
    for start in range(0, count, ROWS_PER_CHUNK):
        part = points[start : start + ROWS_PER_CHUNK]
        labels = torch.multinomial(share, len(part), replacement=True, generator=draw)
        inside = torch.bmm(normal(len(part), 1, 10), bases[labels])[:, 0]
        rows = centres[labels] + inside + normal(len(part), DIM) * (0.02 / DIM**0.5)
        part.copy_(rows / rows.norm(dim=1, keepdim=True))
    return points


def wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], times: int) -> float:
    """Return the median time of a run on the device, after one that does not count."""
    found = []
    for _ in range(times + 1):
        wait()
        started = time.perf_counter()
        run()
        wait()
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
    norms, nearest = points.pow(2).sum(1), torch.full((ROWS,), torch.inf, device=DEVICE)

    def scan() -> int:
        torch.minimum(nearest, norms - 2 * torch.mv(points, points[0]) + norms[0], out=nearest)
        return int(nearest.argmax())

    torch_scan = PICKS * seconds(scan, 20)
    expected = plain_picks(points, min(PICKS, EXACT_PICKS))
    picked: list[IntArray] = []
    rows: list[list[object]] = []
    for precision in PRECISIONS:
        fastest = fastest_kernel(DEVICE, DIM, precision) if len(KERNELS) > 1 else KERNELS[0]
        for kernel in KERNELS:
            done: list[DeviceBounds] = []

            def run(
                precision: Precision = precision,
                kernel: Kernel = kernel,
                done: list[DeviceBounds] = done,
            ) -> None:
                done.clear()  # before the next one takes its memory
                bounds = DeviceBounds(
                    points, ranks, PICKS, device=DEVICE, precision=precision, kernel=kernel
                )
                bounds.take(0)
                bounds.run(PICKS)
                done.append(bounds)

            wall = seconds(run, PAIRS)
            picked.append(done[0].picked)
            np.testing.assert_array_equal(picked[-1], picked[0])
            rows.append(
                [
                    precision,
                    kernel + (" (fastest)" if kernel == fastest else ""),
                    wall,
                    1e3 * wall / PICKS,
                    f"{done[0].num_pairs / (ROWS * PICKS):.1%}",
                    PICKS / done[0].num_rounds,
                    f"x{roofline / wall:.1f}",
                    f"x{torch_scan / wall:.1f}",
                ]
            )
    assert picked[0][: len(expected)].tolist() == expected
    name = torch.cuda.get_device_name() if ON_GPU else "CPU tensors"
    print_table(
        f"{name}, Zipf clusters, {ROWS} x {DIM}, n = {PICKS}, medians of {PAIRS}, the same picks; "
        f"reads {bandwidth / 1e12:.3f} TB/s, so the plain scan's roofline is "
        f"{1e3 * roofline / PICKS:.2f} ms per pick; torch mv scan {1e3 * torch_scan / PICKS:.2f}",
        [
            "filter",
            "kernel",
            "wall s",
            "ms per pick",
            "pairs measured",
            "picks per round",
            "over the roofline",
            "over torch mv",
        ],
        rows,
    )
