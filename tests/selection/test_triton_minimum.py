"""The fused kernel: in the interpreter, compiled for GPUs that are not here, and on one that is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from balancer.errors import ConfigError
from balancer.selection import fastest_kernel as fastest
from balancer.selection import torch_device
from balancer.selection.fastest_kernel import choose_kernel, fastest_kernel
from balancer.selection.filter_errors import Precision
from balancer.selection.torch_device import Kernel, has_triton, require_kernel
from tests.selection.triton_checks import (
    check_both_are_within_the_bound,
    check_no_nearest_pick_is_missed,
    check_picks_are_the_same,
)

# Some packages install a module `tests` of their own, which would come before this folder.
INTERPRETED = """
import sys, types
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = ["tests"]
from tests.selection.triton_checks import main
main()
"""
needs_triton = pytest.mark.skipif(not has_triton(), reason="this build of torch has no Triton")


@needs_triton
def test_in_the_interpreter() -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "checked\n", run.stderr


@needs_triton
@pytest.mark.parametrize(
    ("kind", "precision"), [("fp32", "tf32"), ("bf16", "ieee")], ids=["tf32", "bfloat16"]
)
def test_compiles_to_tensor_cores(
    kind: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton brings the assembler along, so that compiling for an H100 needs none."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from balancer.selection import triton_minimum

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    floats = {"rows": f"*{kind}", "picks": f"*{kind}", "norms": "*fp32", "least": "*fp32"}
    constants = {
        "INPUT_PRECISION": precision,
        "ROWS": triton_minimum.BLOCK_ROWS,
        "PICKS": triton_minimum.BLOCK_PICKS,
        "COLUMNS": triton_minimum.BLOCK_DIM,
    }
    source = ASTSource(
        fn=triton_minimum._row_minimum,
        signature=floats
        | dict.fromkeys(("num_rows", "num_picks", "dim"), "i32")
        | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert "wgmma.mma_async" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 0
    assert compiled.metadata.shared < 100 * 1024  # two programs share a multiprocessor


def test_a_cpu_and_a_small_selection_use_torch() -> None:
    assert choose_kernel("cpu", 128, "float32", 1 << 40) == "torch"
    assert choose_kernel("cuda", 128, "float32", 1 << 20) == "torch"


def fake_times(monkeypatch: pytest.MonkeyPatch, seconds: dict[Kernel, float]) -> None:
    def time_kernel(kernel: Kernel, *_: object) -> float:
        if kernel not in seconds:
            raise RuntimeError("Failed to find C compiler")
        return seconds[kernel]

    fastest_kernel.cache_clear()
    monkeypatch.setattr(fastest, "_time_kernel", time_kernel)
    monkeypatch.setattr(fastest, "has_triton", lambda: True)


@pytest.mark.parametrize(("triton_s", "expected"), [(1.0, "triton"), (3.0, "torch")])
def test_the_fastest_is_chosen(
    monkeypatch: pytest.MonkeyPatch, triton_s: float, expected: Kernel
) -> None:
    fake_times(monkeypatch, {"torch": 2.0, "triton": triton_s})
    assert choose_kernel("cuda", 128, "tf32", 1 << 40) == expected
    fastest_kernel.cache_clear()


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_times(monkeypatch, {"torch": 2.0})
    with pytest.warns(RuntimeWarning, match="could not: Failed to find C compiler.*picks the same"):
        assert choose_kernel("cuda", 128, "tf32", 1 << 40) == "torch"
    fastest_kernel.cache_clear()


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="kernel must be one of torch, triton; got 'cutlass'"):
        require_kernel("cutlass", "cpu")
    if has_triton():
        with pytest.raises(ConfigError, match="The kernel triton needs a GPU; got device 'cpu'"):
            require_kernel("triton", "cpu")
    monkeypatch.setattr(torch_device, "has_triton", lambda: False)
    with pytest.raises(ConfigError, match="needs Triton, which is not installed"):
        require_kernel("triton", "cuda")


@pytest.mark.gpu
@needs_triton
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    check_both_are_within_the_bound("cuda")
    check_no_nearest_pick_is_missed("cuda")
    check_picks_are_the_same("cuda", 3000, 800)


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_fastest_is_measured_on_a_gpu(precision: Precision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert fastest_kernel("cuda", 128, precision) in ("torch", "triton")
