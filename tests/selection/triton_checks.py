"""What the fused kernel must do, on a GPU or in Triton's interpreter.

Triton reads TRITON_INTERPRET as it is imported, so `test_triton_minimum` starts a process for it.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from balancer.distances import nearest_rows
from balancer.selection.device_engine import DeviceBounds
from balancer.selection.farthest_point import farthest_point
from balancer.selection.fastest_kernel import fastest_kernel
from balancer.selection.filter_errors import Precision, kappa, tiny
from balancer.selection.torch_filter import (
    TorchFilter,
    fused_minimum,
    matmul_precision,
    shifted_distances,
)
from tests.selection.test_filters import KINDS, least_of_pairs, rows_of_kind, squared_lengths

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
SHAPES = ((1, 1, 1), (70, 300, 9), (65, 129, 33), (64, 128, 32), (3, 2, 128))
"""(rows, picks, columns) below, at and above the kernel's blocks."""


def check_both_are_within_the_bound(device: str) -> None:
    """Kernel and torch expression differ from the exact value by at most the proven error."""
    for precision in PRECISIONS:
        for seed, (num_rows, num_picks, dim) in enumerate(SHAPES):
            for kind in KINDS:
                for scale in (1e-6, 1e6):
                    both = rows_of_kind(kind, seed, num_rows + num_picks, dim, scale=scale)
                    rows, picks = both[:num_rows].copy(), both[num_rows:].copy()
                    lengths = squared_lengths(picks).astype(np.float64)
                    exact = lengths - 2 * rows.astype(np.float64) @ picks.astype(np.float64).T
                    largest = squared_lengths(rows).astype(np.float64) + lengths.max()
                    error = kappa(precision, dim) * largest + tiny(dim)
                    moved = (
                        torch.from_numpy(rows).to(device),
                        torch.from_numpy(picks).to(device),
                        torch.from_numpy(squared_lengths(picks)).to(device),
                    )
                    with matmul_precision(torch.device(device).type, precision):
                        fused = fused_minimum(*moved, precision)
                        plain = shifted_distances(*moved, precision).amin(dim=1)
                    for found in (fused, plain):
                        wrong = np.abs(found.cpu().double().numpy() - exact.min(axis=1))
                        assert (wrong <= error).all(), (precision, kind, scale)


def check_no_nearest_pick_is_missed(device: str) -> None:
    """The pairs found after the kernel's minimum hold each row's nearest pick."""
    for precision in PRECISIONS:
        for kind in KINDS:
            rows = rows_of_kind(kind, 5, 140, 17)
            rows, picks = rows[:100].copy(), rows[100:].copy()
            nearest = nearest_rows(rows, picks)[1]
            factor = np.random.default_rng(1).choice([0.5, 1, 1 + 1e-6, 2, np.inf], 100)
            with np.errstate(invalid="ignore"):
                bound = np.where(nearest == 0, np.inf, nearest * factor).astype(np.float32)
            places, columns = TorchFilter(device, precision, "triton").candidates(
                rows,
                squared_lengths(rows),
                picks,
                squared_lengths(picks),
                bound.astype(np.float64),
            )
            least = least_of_pairs(rows, picks, places, columns, bound)
            assert least.tolist() == np.minimum(bound, nearest).tolist(), (precision, kind)


def check_picks_are_the_same(device: str, num_rows: int, num_picks: int) -> None:
    """The engine with the kernel picks as the plain scan."""
    for precision in PRECISIONS:
        for kind in KINDS:
            points = rows_of_kind(kind, 7, num_rows, 13, offset=10.0)
            plain = farthest_point(points, num_picks, first=3, engine="plain")
            bounds = DeviceBounds(
                points,
                np.arange(num_rows),
                num_picks,
                device=device,
                precision=precision,
                kernel="triton",
            )
            bounds.take(3)
            bounds.run(num_picks)
            assert bounds.kernel == "triton"
            assert bounds.picked.tolist() == plain.indices.tolist(), (precision, kind)


def main() -> None:
    """Run all checks in the interpreter."""
    check_both_are_within_the_bound("cpu")
    check_no_nearest_pick_is_missed("cpu")
    check_picks_are_the_same("cpu", 80, 25)
    assert fastest_kernel("cpu", 8, "float32", 64, 32) in ("torch", "triton")
    sys.stdout.write("checked\n")
