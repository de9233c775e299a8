"""Peak memory of a selection over the bytes of its embeddings, in a process of its own.

pytest tests/benchmarks -m "" -s -k memory

The child's baseline is taken after imports and after a small selection that compiles. In memory,
the array itself counts; mapped, the pages of the file that are resident do, although the system
may take them back at any time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from balancer.config import SelectionConfig
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.selection import select_certified
from balancer.selection.farthest_point import farthest_point
from tests.benchmarks.measuring import print_table, scaled
from tests.benchmarks.selection_data import DIM, gaussian, write_gaussian

ROWS, PICKS = scaled(1_000_000, 500), scaled(2000, 20)
STATUS = Path("/proc/self/status")
ROOT = Path(__file__).parents[2]
MODES = ("in memory", "mapped", "select, mapped", "command")
"""`farthest_point` twice, then `select` with its certificate, then the whole of `balancer select`
on a `.npy`: by cosine, certified, with a manifest."""

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from /proc"),
]


def resident(field: str) -> int:
    """Return one of /proc's counts of this process in bytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def run(path: str, mode: str, num_picks: int) -> None:
    """Select from a file in one of the ways of `MODES`."""
    chosen = SelectionConfig(budget=num_picks, strategy="farthest-point")
    if mode == "command":
        out = str(Path(path).with_name("manifest.parquet"))
        select_embeddings(EmbeddingsRequest(path, out, chosen.model_dump(exclude_defaults=True)))
    elif mode == "select, mapped":
        # Copy on write: read-only arrays are compiled for apart, which takes memory too.
        select_certified(np.load(path, mmap_mode="c"), chosen)[1]()
    else:
        points = np.load(path, mmap_mode="c" if mode == "mapped" else None)
        farthest_point(points, num_picks, first=0)


def measure(path: str, mode: str, num_picks: int) -> int:
    """Select from a file in this process; return its peak, in bytes, over what it had before."""
    small = Path(path).with_name("small") / "rows.npy"
    small.parent.mkdir(exist_ok=True)
    np.save(small, gaussian(3000))
    run(str(small), mode, 300)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    run(path, mode, num_picks)
    return resident("VmHWM") - before


def test_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    num_bytes = write_gaussian(path, ROWS)
    rows = []
    for mode in MODES:
        program = f"from {__name__} import *; print(measure(*sys.argv[1:3], {PICKS}))"
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), mode],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peak = int(done.stdout)
        own = peak - num_bytes
        rows.append([mode, num_bytes / 1e6, peak / 1e6, peak / num_bytes, own / ROWS])
    print_table(
        f"Peak memory, {ROWS} x {DIM} float32, n = {PICKS}",
        ["rows", "embeddings MB", "peak MB", "peak / embeddings", "bytes per row beside them"],
        rows,
    )
