"""The least of |s|^2 - 2 x.s over a block of picks, without writing the block: one Triton kernel.

Each program holds `BLOCK_ROWS` rows and runs over all picks, `BLOCK_PICKS` at a time, so the values
stay in registers and R floats are written instead of R x W. Which columns hold the smallest value
is not said: few rows need it (`balancer.selection.torch_filter`).

On a CPU the kernel runs in Triton's interpreter, for tests only (TRITON_INTERPRET=1).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # pragma: no cover - CPU builds of torch may come without it
    triton = None

BLOCK_ROWS = 64
BLOCK_PICKS = 128
BLOCK_DIM = 32
"""Multiples of 16, the least that tensor cores take; a block of products is 32 KiB of registers."""

if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _row_minimum(  # noqa: PLR0913 - arguments of one kernel
        rows: tl.tensor,
        picks: tl.tensor,
        norms: tl.tensor,
        least: tl.tensor,
        num_rows: tl.tensor,
        num_picks: tl.tensor,
        dim: tl.tensor,
        INPUT_PRECISION: tl.constexpr,
        ROWS: tl.constexpr,
        PICKS: tl.constexpr,
        COLUMNS: tl.constexpr,
    ) -> None:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        some_row = row < num_rows
        smallest = tl.full((ROWS,), float("inf"), tl.float32)
        for begin in range(0, num_picks, PICKS):
            pick = begin + tl.arange(0, PICKS)
            some_pick = pick < num_picks
            products = tl.zeros((ROWS, PICKS), tl.float32)
            for start in range(0, dim, COLUMNS):
                column = start + tl.arange(0, COLUMNS)
                some_column = column < dim
                left = tl.load(
                    rows + row[:, None] * dim + column[None, :],
                    mask=some_row[:, None] & some_column[None, :],
                    other=0.0,
                )
                right = tl.load(
                    picks + pick[None, :] * dim + column[:, None],
                    mask=some_pick[None, :] & some_column[:, None],
                    other=0.0,
                )
                products = tl.dot(left, right, products, input_precision=INPUT_PRECISION)
            norm = tl.load(norms + pick, mask=some_pick, other=float("inf"))
            smallest = tl.minimum(smallest, tl.min(norm[None, :] - 2.0 * products, axis=1))
        tl.store(least + row, smallest, mask=some_row)


def row_minimum(
    rows: torch.Tensor, picks: torch.Tensor, pick_norms: torch.Tensor, *, tf32: bool = False
) -> torch.Tensor:
    """Return the least |s|^2 - 2 x.s of each row x over the picks s.

    Args:
        rows: (R, D) float32 or bfloat16, on a GPU.
        picks: (W, D) of the same type, W >= 1.
        pick_norms: (W,) float32, the picks' squared lengths.
        tf32: multiply float32 as TF32; the inputs are rounded to it already.

    Returns:
        (R,) float32. Products are summed in float32 and nothing is rounded to bfloat16 but the
        inputs, so the error is within that of `balancer.selection.filter_errors`.

    Cost: R W D multiplications; reads the rows W / `BLOCK_PICKS` times, from the cache but for the
        first time, and writes 4 R bytes.
    """
    rows, picks = rows.contiguous(), picks.contiguous()
    if rows.dtype == torch.bfloat16 and not rows.is_cuda:
        # The interpreter multiplies the bits of bfloat16 as whole numbers.
        rows, picks = rows.float(), picks.float()
    count = len(rows)
    least = torch.empty(count, dtype=torch.float32, device=rows.device)
    if count == 0:
        return least
    on_device: AbstractContextManager[object] = (
        torch.cuda.device(rows.device) if rows.is_cuda else nullcontext()
    )
    with on_device:
        _row_minimum[(triton.cdiv(count, BLOCK_ROWS),)](
            rows,
            picks,
            pick_norms.contiguous(),
            least,
            count,
            len(picks),
            rows.shape[1],
            INPUT_PRECISION="tf32" if tf32 else "ieee",
            ROWS=BLOCK_ROWS,
            PICKS=BLOCK_PICKS,
            COLUMNS=BLOCK_DIM,
        )
    return least
