"""The nearest centroid by torch, on any device: the filter there, the decision on the CPU.

The bound is that of `balancer.clustering.nearest_centroid`: |x|^2 + |c|^2 - 2 x.c in float32
differs from the canonical squared distance by at most (D + 16) 2^-24 (|x|^2 + |c|^2), so the
nearest centroid is among the columns within twice that of the smallest. Only these pairs, about
one per row, come back from the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

from balancer.distances import squared_distance
from balancer.errors import ConfigError
from balancer.types import FloatArray, IntArray

BLOCK_ENTRIES = 1 << 26
"""Products on the device at a time: 256 MB."""


def assign_by_torch(
    points: FloatArray, centroids: FloatArray, device: str
) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest centroid by (canonical distance, centroid number).

    Args:
        points: (N, D) float32, finite.
        centroids: (K, D) float32, K >= 1.
        device: of torch, such as `cuda` or `cpu`.

    Returns:
        (N,) int64 centroid numbers and (N,) float32 canonical squared distances.

    Raises:
        ConfigError: torch has no such device here.

    Cost: N * K * D multiply-adds on the device, 0.5 GB there; about 20 bytes per row come back.

    >>> assign_by_torch(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1], "cpu")[0]
    array([1, 0])
    """
    import torch

    require_device(device)
    centroids = np.ascontiguousarray(centroids)
    lengths = np.einsum("ij,ij->i", centroids, centroids, dtype=np.float64)
    dim, largest = points.shape[1], float(lengths.max())
    unit = (dim + 16) * 2.0**-24
    error = 1.001 * unit / (1 - unit)
    norms = torch.from_numpy(lengths.astype(np.float32)).to(device)
    columns = torch.from_numpy(np.array(centroids, np.float32)).to(device).T
    labels = np.zeros(len(points), dtype=np.int64)
    squared = np.full(len(points), np.inf, dtype=np.float32)
    step = max(1, BLOCK_ENTRIES // len(centroids))
    with full_precision(device):
        for begin in range(0, len(points), step):
            block = np.array(points[begin : begin + step], np.float32)
            rows = torch.from_numpy(block).to(device)
            shifted = torch.addmm(norms, rows, columns, alpha=-2)  # lacks |x|^2
            slack = error * ((rows.double() ** 2).sum(dim=1) + largest) + 1e-36
            limit = (shifted.amin(dim=1).double() + 2 * slack).float()
            limit = torch.nextafter(limit, torch.tensor(np.inf, device=device))
            pairs = torch.nonzero(shifted <= limit[:, None]).cpu().numpy()
            end = begin + len(block)
            _decide(block, centroids, pairs, labels[begin:end], squared[begin:end])
    return labels, squared


@numba.njit(cache=True)
def _decide(
    points: FloatArray,
    centroids: FloatArray,
    pairs: IntArray,
    labels: IntArray,
    squared: FloatArray,
) -> None:
    """Lower each row by its (row, centroid) pairs, which come in ascending order."""
    for i in range(pairs.shape[0]):
        row, centroid = pairs[i, 0], pairs[i, 1]
        distance = squared_distance(points[row], centroids[centroid])
        if distance < squared[row]:
            squared[row] = distance
            labels[row] = centroid


def require_device(device: str) -> None:
    """Refuse a device that torch does not have here.

    Raises:
        ConfigError: with the remedy.

    >>> require_device("cpu")
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device must be one that torch has here; got {device!r} ({error}). Use cpu, which "
            f"gives the same answer."
        ) from error


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Keep float32 products in float32 (no TF32), whatever the process has chosen."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    cuda: Any = torch.backends.cuda.matmul
    backend: Any = getattr(mkldnn, "matmul", None) if device.startswith("cpu") else cuda
    if not hasattr(backend, "fp32_precision"):  # pragma: no cover - torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    kept = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = kept
