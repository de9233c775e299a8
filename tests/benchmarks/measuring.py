"""Alternating runs, medians and tables for the benchmarks.

BENCH_SCALE multiplies the sizes of the selection benchmarks (0.025 is a smoke test) and
BENCH_PAIRS sets how often each pair is run.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
PAIRS = int(os.environ.get("BENCH_PAIRS", "5"))

T = TypeVar("T")


def scaled(size: int, least: int = 1) -> int:
    """Return a size times BENCH_SCALE."""
    return max(least, round(size * SCALE))


@dataclass(frozen=True, slots=True)
class Timing(Generic[T]):
    """Medians over the runs, and what the last one returned.

    Attributes:
        wall_s: wall seconds.
        cpu_s: CPU seconds of this process, all threads.
        result: returned.
    """

    wall_s: float
    cpu_s: float
    result: T


def alternate(
    runs: Sequence[Callable[[], T]], *, pairs: int = PAIRS, warm: bool = True
) -> list[Timing[T]]:
    """Run each of `runs` in turn, `pairs` times over, after one turn that does not count.

    Args:
        runs: what to measure.
        pairs: turns.
        warm: run the uncounted turn; it compiles and fills caches.
    """
    found: list[list[tuple[float, float]]] = [[] for _ in runs]
    results: dict[int, T] = {}
    for turn in range(-1 if warm else 0, pairs):
        for number, run in enumerate(runs):
            wall, cpu = time.perf_counter(), time.process_time()
            results[number] = run()
            if turn >= 0:
                found[number].append((time.perf_counter() - wall, time.process_time() - cpu))
    return [
        Timing(
            statistics.median(wall for wall, _ in times),
            statistics.median(cpu for _, cpu in times),
            results[number],
        )
        for number, times in enumerate(found)
    ]


def machine() -> str:
    """Return the processor's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line for line in listing.read_text().splitlines() if "model name" in line]
        name = names[0].partition(":")[2].strip() if names else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a markdown table under a line that names the machine.

    >>> print_table("Sums", ["a", "b"], [[1, 0.25], ["x", 1234.5]])  # doctest: +ELLIPSIS
    <BLANKLINE>
    Sums (..., ... cores)
    <BLANKLINE>
    | a | b |
    |---|---|
    | 1 | 0.25 |
    | x | 1234 |
    """
    print(f"\n{title} ({machine()})\n")
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row)} |", flush=True)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
