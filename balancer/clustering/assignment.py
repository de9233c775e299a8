"""Assign rows to their nearest centroid: fast arithmetic proposes, the canonical distance decides.

Every engine computes |x|^2 - 2 x.c + |c|^2 in float32, whose last bits depend on the batch, the
threads and the build. It is used only to rule centroids out, with the error that this arithmetic
can make; what is left is compared canonically. So the labels are those of the canonical distance
for any batch, engine, device and machine.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from balancer.clustering.nearest_centroid import nearest_centroids
from balancer.distances import nearest_rows, paired_distances
from balancer.errors import ConfigError
from balancer.types import FloatArray, IntArray

Engine = Literal["auto", "compiled", "faiss", "torch"]

ROUNDING = float(np.finfo(np.float32).eps)
"""Twice the unit roundoff of float32: the bound below holds with a factor 2 to spare."""

FEW_CENTROIDS = 4
SMALL = 1 << 16
"""Below these many centroids or multiplications the plain scan is as fast as a matrix product."""


def assign(
    points: FloatArray, centroids: FloatArray, *, device: str = "cpu", engine: Engine = "auto"
) -> tuple[IntArray, FloatArray]:
    """Return each row's nearest centroid by (canonical distance, centroid number).

    Args:
        points: (N, D) float32, C-contiguous, finite.
        centroids: (K, D) float32, K >= 1.
        device: `cpu`, `cuda` or `cuda:1`. A CPU is always valid and gives the same answer.
        engine: `auto` takes on a CPU the compiled filter, as fast as FAISS and exact in the same
            pass, and on a GPU FAISS where its GPU build is installed, else torch.

    Returns:
        (N,) int64 centroid numbers and (N,) float32 canonical squared distances.

    Raises:
        ConfigError: the device or the engine is not there.

    Cost: N * K * D multiply-adds, 12 bytes per row, and a canonical distance for each centroid
    that may be the nearest: about one per row.

    >>> assign(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1].copy())[0]
    array([1, 0])
    """
    if len(centroids) < FEW_CENTROIDS or len(points) == 0:
        return nearest_rows(points, centroids)
    if engine == "auto":
        if points.size * len(centroids) < SMALL:
            return nearest_rows(points, centroids)
        engine = choose_engine(device)
    if engine == "compiled":
        if device != "cpu":
            raise ConfigError(
                f"The compiled engine runs on the device cpu; got {device}. "
                f"Use the engine auto, faiss or torch there."
            )
        return nearest_centroids(points, centroids)
    if engine == "torch":
        from balancer.clustering.torch_assignment import assign_by_torch

        return assign_by_torch(points, centroids, device)
    return _assign_by_faiss(points, centroids, device)


def choose_engine(device: str) -> Engine:
    """Return what `auto` means on a device.

    >>> choose_engine("cpu")
    'compiled'
    """
    if device == "cpu":
        return "compiled"
    return "faiss" if _faiss_gpus() else "torch"


def _faiss_gpus() -> int:
    """Return the GPUs that FAISS sees; 0 without FAISS or with its CPU build."""
    try:
        import faiss
    except ImportError:  # pragma: no cover - the development install has FAISS
        return 0
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def _assign_by_faiss(
    points: FloatArray, centroids: FloatArray, device: str
) -> tuple[IntArray, FloatArray]:
    """Use the nearest of FAISS where its runner-up is farther by more than twice the error.

    The other rows are compared canonically with every centroid that may be nearest.
    """
    approximate, proposed = _search(points, centroids, device)
    labels = np.ascontiguousarray(proposed[:, 0])
    squared = paired_distances(points, centroids, np.maximum(labels, 0))
    # Rounding error of the expanded form: (D + 4) roundings of terms of size (|x| + |c|)^2.
    norms = np.sqrt(np.einsum("ij,ij->i", points, points))
    largest = float(np.sqrt(np.einsum("ij,ij->i", centroids, centroids)).max())
    error = (points.shape[1] + 4) * ROUNDING * (norms + largest) ** 2
    ambiguous = ~(approximate[:, 1] - approximate[:, 0] > 2 * error) | (labels < 0)
    if ambiguous.any():
        labels[ambiguous], squared[ambiguous] = nearest_centroids(points[ambiguous], centroids)
    return labels, squared


def _search(points: FloatArray, centroids: FloatArray, device: str) -> tuple[FloatArray, IntArray]:
    try:
        import faiss
    except ImportError as error:  # pragma: no cover - the development install has FAISS
        raise ConfigError(
            "The engine faiss needs FAISS, which is not installed. "
            'Install one of its builds: pip install "balancer[cpu]" or "balancer[gpu]".'
        ) from error
    dim = points.shape[1]
    if device == "cpu":
        index = faiss.IndexFlatL2(dim)
    else:
        if not _faiss_gpus():
            raise ConfigError(
                f"The engine faiss needs a GPU build of FAISS and a GPU for the device {device}; "
                f'there is none. pip install "balancer[gpu]", or use the engine auto or torch.'
            )
        index = _gpu_index(faiss, dim, device)  # pragma: no cover - needs a GPU
    index.add(np.ascontiguousarray(centroids))
    return index.search(points, 2)


def _gpu_index(faiss: Any, dim: int, device: str) -> Any:  # noqa: ANN401  # pragma: no cover - needs a GPU
    """Return an exact float32 index on the GPU."""
    options = faiss.GpuIndexFlatConfig()
    options.device = int(device.partition(":")[2] or 0)
    options.useFloat16 = False  # the error bound is that of float32
    return faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), dim, options)
