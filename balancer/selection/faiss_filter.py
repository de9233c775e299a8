"""A filter by FAISS's brute-force nearest neighbours, on a CPU or a GPU."""

from __future__ import annotations

import numpy as np

from balancer.errors import ConfigError
from balancer.selection.catch_up import relative_error
from balancer.selection.filter_errors import SAFETY, kappa, tiny
from balancer.types import DoubleArray, FloatArray, IntArray

NEIGHBOURS = 4


class FaissFilter:
    """A filter by FAISS's brute-force nearest neighbours: `knn`, or `knn_gpu`.

    FAISS returns the four nearest picks of each row. Where the last of them is still within 2 e
    of the first, others may be too, and all picks of the block become candidates. On a CPU kappa
    has the float32 product and FAISS's own float32 lengths; on a GPU it also covers TF32 products
    cut off at 10 bits, which CUDA can be told to use.

    Args:
        gpu: use `knn_gpu`.

    Raises:
        ConfigError: FAISS is not installed, or not for GPUs.
    """

    def __init__(self, gpu: bool = False) -> None:
        try:
            import faiss
        except ImportError as error:  # pragma: no cover - the development install has FAISS
            raise ConfigError(
                "The faiss filter needs FAISS, which is not installed. Install one of its builds: "
                'pip install "balancer[cpu]" or "balancer[gpu]".'
            ) from error
        if gpu and not (hasattr(faiss, "knn_gpu") and faiss.get_num_gpus() > 0):
            raise ConfigError(
                "The faiss-gpu filter needs a GPU and a build of FAISS for it; got a build "
                f"{'with' if hasattr(faiss, 'knn_gpu') else 'without'} knn_gpu and no GPU it can "
                'use. Install "balancer[gpu]" on a machine with one, or use the faiss filter.'
            )
        self.name = "faiss-gpu" if gpu else "faiss"
        self._faiss = faiss
        self._resources = faiss.StandardGpuResources() if gpu else None

    def kappa(self, dim: int) -> float:
        """Return the relative error: see the module; the lengths are one more float32 sum."""
        product = (1 + SAFETY) * relative_error(2 * dim)
        return product if self._resources is None else product + kappa("tf32", dim) + 2.0**-10

    def candidates(
        self,
        rows: FloatArray,
        row_norms: FloatArray,
        picks: FloatArray,
        pick_norms: FloatArray,
        bounds: DoubleArray,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs that may matter; see `Filter`."""
        count, dim = picks.shape
        k = min(NEIGHBOURS, count)
        rows, picks = np.ascontiguousarray(rows), np.ascontiguousarray(picks)
        if self._resources is None:
            found, columns = self._faiss.knn(rows, picks, k)
        else:
            found, columns = self._faiss.knn_gpu(self._resources, rows, picks, k)
        approximate = found.astype(np.float64)
        slack = self.kappa(dim) * (row_norms.astype(np.float64) + pick_norms.max()) + tiny(dim)
        limit = np.minimum(approximate[:, 0] + 2 * slack, bounds * (1 + SAFETY) + slack)
        near = approximate <= limit[:, None]
        # A label of -1 (fewer results than asked for) is no pick; then every pick is a candidate.
        crowded = near[:, -1] & (k < count) | (columns < 0).any(axis=1)
        near[crowded] = False
        places, ranks = np.nonzero(near)
        all_of = np.flatnonzero(crowded)
        return (
            np.concatenate([places, np.repeat(all_of, count)]),
            np.concatenate(
                [columns[places, ranks].astype(np.int64), np.tile(np.arange(count), len(all_of))]
            ),
        )
