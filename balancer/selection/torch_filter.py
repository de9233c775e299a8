"""Filters by torch, on any device and in any precision; on a GPU also by one fused kernel.

The torch expression writes the whole block of R x W values and reads it again for the smallest of
each row. Most rows need no more than that smallest value: it shows that no pick of the block is
nearer than their bound. So the fused kernel (`triton_minimum`) keeps the block in registers and
writes R values; the pairs of the few rows that stay are found by the torch expression. Both
arithmetics are within e of the canonical value (`filter_errors`), so with a(s1) the smallest value
of the one and b the other,

    b(s*) <= d(s*) + e <= d(s1) + e <= a(s1) + 2 e:

the limits are the same whichever of the two found the smallest value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from balancer.selection.filter_errors import SAFETY, Precision, kappa, require_precision, tiny
from balancer.selection.torch_device import Kernel, require_device, require_kernel
from balancer.types import DoubleArray, FloatArray, IntArray


def round_to_tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to 10 explicit bits, half to even: what TF32 tensor cores can read exactly."""
    bits = values.contiguous().view(torch.int32)
    rounded: torch.Tensor = ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
    return rounded


@contextmanager
def matmul_precision(device: str, precision: Precision) -> Iterator[None]:
    """Pin what a float32 product on the device may do inside, whatever the process has chosen.

    The switches belong to the process, so threads that multiply at the same time share them.
    """
    cuda = torch.backends.cuda.matmul
    reduced = cuda.allow_bf16_reduced_precision_reduction
    mode = "tf32" if precision == "tf32" and device != "cpu" else "ieee"
    mkldnn: Any = torch.backends.mkldnn
    backend: Any = cuda if device != "cpu" else getattr(mkldnn, "matmul", None)
    new_switch = hasattr(backend, "fp32_precision")
    before = backend.fp32_precision if new_switch else torch.get_float32_matmul_precision()
    try:
        if new_switch:
            backend.fp32_precision = mode
        else:  # pragma: no cover - torch before 2.9
            torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
        cuda.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        if new_switch:
            backend.fp32_precision = before
        else:  # pragma: no cover - torch before 2.9
            torch.set_float32_matmul_precision(before)
        cuda.allow_bf16_reduced_precision_reduction = reduced


def shifted_distances(
    rows: torch.Tensor, picks: torch.Tensor, pick_norms: torch.Tensor, precision: Precision
) -> torch.Tensor:
    """Return |s|^2 - 2 x.s of all pairs by one product: the distances less the rows' |x|^2.

    Args:
        rows: (R, D) float32 less the mean.
        picks: (W, D) float32 less the mean.
        pick_norms: (W,) their squared lengths.
        precision: of the product.

    Returns:
        (R, W) float32, with the error of `filter_errors`.

    Cost: R W D multiplications and 4 R W bytes.

    >>> one = torch.ones(1, 2)
    >>> shifted_distances(one, 2 * one, torch.tensor([8.0]), "bfloat16")
    tensor([[0.]])
    """
    if precision == "bfloat16" and rows.device.type != "cpu":
        product = (rows.bfloat16() @ picks.bfloat16().T).float()
        return torch.add(pick_norms, product, alpha=-2)
    if precision == "bfloat16":
        # CPUs without bfloat16 instructions sum in their own ways; this one is bounded.
        product = rows.bfloat16().float() @ picks.bfloat16().float().T
        return torch.add(pick_norms, product.bfloat16().float(), alpha=-2)
    if precision == "tf32":
        rows, picks = round_to_tf32(rows), round_to_tf32(picks)
    return torch.addmm(pick_norms, rows, picks.T, alpha=-2)


def fused_minimum(
    rows: torch.Tensor, picks: torch.Tensor, pick_norms: torch.Tensor, precision: Precision
) -> torch.Tensor:
    """Return the least `shifted_distances` of each row by one fused kernel: (R,) float32."""
    from balancer.selection.triton_minimum import row_minimum

    if precision == "bfloat16":
        return row_minimum(rows.bfloat16(), picks.bfloat16(), pick_norms)
    if precision == "tf32":
        return row_minimum(round_to_tf32(rows), round_to_tf32(picks), pick_norms, tf32=True)
    return row_minimum(rows, picks, pick_norms)


def near_pairs(
    rows: torch.Tensor,
    row_norms: torch.Tensor,
    picks: torch.Tensor,
    pick_norms: torch.Tensor,
    bounds: torch.Tensor,
    precision: Precision,
    kernel: Kernel = "torch",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return candidates as `Filter.candidates` does, for tensors on one device.

    Rows whose smallest value shows that no pick of the block is nearer than their bound are
    dropped before the pairs are listed.

    Cost: R W D multiplications; 4 R W bytes by torch, and by the fused kernel that for the rows
        that stay.
    """
    fused = kernel == "triton"
    with matmul_precision(rows.device.type, precision):
        if fused:
            least = fused_minimum(rows, picks, pick_norms, precision).double()
        else:
            shifted = shifted_distances(rows, picks, pick_norms, precision)
            least = shifted.amin(dim=1).double()
        # All is relative to the shifted distances, which lack the row's |x|^2.
        norms = row_norms.double()
        slack = kappa(precision, rows.shape[1]) * (norms + pick_norms.max().double())
        slack = slack + tiny(rows.shape[1])
        limit = torch.minimum(least + 2 * slack, bounds * (1 + SAFETY) - norms + slack)
        wanted = torch.nonzero(least <= limit).squeeze(1)
        shifted = (
            shifted_distances(rows[wanted], picks, pick_norms, precision)
            if fused
            else shifted[wanted]
        )
    up = torch.nextafter(limit[wanted].float(), torch.tensor(np.inf, device=rows.device))
    pairs = torch.nonzero(shifted <= up[:, None])
    return wanted[pairs[:, 0]], pairs[:, 1]


class TorchFilter:
    """A filter by torch, on any device and in any precision.

    Args:
        device: `cpu`, `cuda` or `cuda:1`.
        precision: of the product. On a CPU `tf32` and `bfloat16` round as tensor cores do and
            multiply in float32: the same picks and the same bound, without the speed.
        kernel: `torch`, or `triton` on a GPU.

    Raises:
        ConfigError: torch has no such device here, or Triton is not installed.
        ValueError: an unknown precision.
    """

    def __init__(
        self, device: str = "cpu", precision: Precision = "float32", kernel: Kernel = "torch"
    ) -> None:
        require_device(device)
        require_precision(precision)
        require_kernel(kernel, device)
        self.name = f"{kernel}-{device}-{precision}"
        self._device = device
        self._precision: Precision = precision
        self._kernel: Kernel = kernel

    def candidates(
        self,
        rows: FloatArray,
        row_norms: FloatArray,
        picks: FloatArray,
        pick_norms: FloatArray,
        bounds: DoubleArray,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs that may matter; see `filters.Filter`."""

        def moved(values: FloatArray | DoubleArray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

        with torch.no_grad():
            places, columns = near_pairs(
                moved(rows),
                moved(row_norms),
                moved(picks),
                moved(pick_norms),
                moved(bounds),
                self._precision,
                self._kernel,
            )
        return places.cpu().numpy(), columns.cpu().numpy()
