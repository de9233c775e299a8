"""What the workers of one training tell each other: arrays to the first, its answer to all.

Plain tensors in torch.distributed's group, which Ray Train sets up for several workers; a single
worker needs no group. Every worker must make the same calls in the same order.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, distributed, nn

from balancer.types import FloatArray, IdArray, IntArray


class Workers:
    """The workers of a training as one of them sees them.

    Args:
        rank: this worker.
        world_size: how many there are; 1 needs no process group.
        device: where tensors must lie: the GPU for NCCL, the CPU for gloo.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank, self.world_size, self._device = rank, world_size, device

    def gather_vectors(self, vectors: FloatArray) -> FloatArray | None:
        """Return all workers' (n, D) vectors in rank order on worker 0, None elsewhere."""
        parts = self._gather(torch.from_numpy(vectors))
        return None if parts is None else np.concatenate([part.numpy() for part in parts])

    def gather_numbers(self, numbers: IntArray) -> IntArray | None:
        """Return all workers' (n, ...) int64 numbers in rank order on worker 0, None elsewhere."""
        parts = self._gather(torch.from_numpy(numbers))
        return None if parts is None else np.concatenate([part.numpy() for part in parts])

    def gather_ids(self, ids: IdArray) -> IdArray | None:
        """Return all workers' (n,) ids in rank order on worker 0, None elsewhere."""
        longest = self._largest(ids.dtype.itemsize // np.dtype("U1").itemsize)
        codes = ids.astype(f"U{longest}").view(np.int32).reshape(len(ids), longest)
        parts = self._gather(torch.from_numpy(codes))
        if parts is None:
            return None
        rows = np.ascontiguousarray(np.concatenate([part.numpy() for part in parts]))
        found: IdArray = rows.view(f"U{longest}").reshape(-1)
        return found

    def from_first(self, numbers: IntArray | None) -> IntArray:
        """Return worker 0's (n,) int64 numbers on every worker; the others give None."""
        if self.world_size == 1:
            assert numbers is not None  # worker 0 has them
            return numbers
        count = torch.tensor([0 if numbers is None else len(numbers)], device=self._device)
        distributed.broadcast(count, src=0)
        sent = torch.empty(int(count), dtype=torch.int64, device=self._device)
        if numbers is not None:
            sent.copy_(torch.from_numpy(numbers))
        distributed.broadcast(sent, src=0)
        return sent.cpu().numpy()

    def share_buffers(self, module: nn.Module) -> None:
        """Give every worker worker 0's buffers, such as the running means of normalisation.

        Data-parallel training does so before each forward pass only, so that after an epoch they
        differ; and a checkpoint holds worker 0's.
        """
        if self.world_size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def _gather(self, rows: Tensor) -> list[Tensor] | None:
        """Return every worker's rows on worker 0. Tensors of a gather must have one shape."""
        if self.world_size == 1:
            return [rows]
        longest = self._largest(len(rows))
        padded = rows.new_zeros((longest + 1, *rows.shape[1:]), device=self._device)
        padded[: len(rows)] = rows.to(self._device)
        counts = torch.tensor([len(rows)], device=self._device)
        first = self.rank == 0
        lengths = [torch.empty_like(counts) for _ in range(self.world_size)] if first else None
        distributed.gather(counts, lengths, dst=0)
        parts = [torch.empty_like(padded) for _ in range(self.world_size)] if first else None
        distributed.gather(padded, parts, dst=0)
        if parts is None or lengths is None:
            return None
        return [part[: int(n)].cpu() for part, n in zip(parts, lengths, strict=True)]

    def _largest(self, number: int) -> int:
        if self.world_size == 1:
            return number
        largest = torch.tensor([number], device=self._device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)
