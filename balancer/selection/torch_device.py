"""What torch and Triton can use here, asked without loading either before it is needed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, get_args

from balancer.errors import ConfigError

Kernel = Literal["torch", "triton"]
"""What finds the smallest value of a block: `balancer.selection.torch_filter`."""


def require_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        ConfigError: naming the device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device must be one that torch can use here; got {device!r}. Use 'cpu', or run on a "
            f"machine with that device and a build of torch for it."
        ) from error


def has_triton() -> bool:
    """Return whether Triton is installed; CUDA builds of torch bring it along."""
    return find_spec("triton") is not None


def require_kernel(kernel: str, device: str) -> None:
    """Refuse a kernel that is not there, or not for the device.

    Raises:
        ValueError: an unknown kernel.
        ConfigError: Triton is not installed, or the device is a CPU it does not compile for.

    >>> require_kernel("torch", "cpu")
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel must be one of {', '.join(get_args(Kernel))}; got {kernel!r}.")
    if kernel != "triton":
        return
    if not has_triton():
        raise ConfigError(
            "The kernel triton needs Triton, which is not installed. CUDA builds of torch bring it "
            "along; install one, or use the kernel torch."
        )
    if device.partition(":")[0] == "cpu" and not interpreted():
        raise ConfigError(
            f"The kernel triton needs a GPU; got device {device!r}. Use the kernel torch there, or "
            f"set TRITON_INTERPRET=1 to try it on a CPU."
        )


def interpreted() -> bool:
    """Return whether Triton interprets its kernels on the CPU (TRITON_INTERPRET=1)."""
    import triton

    return bool(triton.knobs.runtime.interpret)
