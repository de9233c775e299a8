"""A run's encoder on a worker: decoded tiles in, vectors out.

Torch loads with the first instance, not with the module: the driver names the class and does not
compute.
"""

from __future__ import annotations

from balancer.config import Config
from balancer.storage.filesystem import Store
from balancer.types import ByteArray, EncoderRef, FloatArray


class TileEmbedder:
    """An encoder of the run, on the device that Ray gave this worker.

    Args:
        store: opens its weights.
        config: of the run.
        encoder: which.

    Raises:
        DataError: a frozen encoder that is not what it was when the run began.
    """

    def __init__(self, store: Store, config: Config, encoder: EncoderRef) -> None:
        from balancer.stages.encoders import load_trained, set_threads, worker_device

        set_threads(config.embedding.cpus_per_worker)
        self._config, self._device = config, worker_device()
        backbone = load_trained(store, encoder, config.encoder, config.seed)
        self._backbone = backbone.to(self._device)
        self.dim = backbone.dim

    def __call__(self, tiles: ByteArray) -> FloatArray:
        """Return the (n, dim) float32 vectors of (n, S, S, 3) uint8 tiles."""
        from balancer.embedding.inference import embed_tiles

        return embed_tiles(
            self._backbone,
            tiles,
            batch_size=self._config.embedding.batch_size,
            mean=self._config.encoder.mean,
            std=self._config.encoder.std,
            device=self._device,
        )
