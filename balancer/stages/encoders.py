"""Building the encoder of a run on a worker: from its configuration and stored weights."""

from __future__ import annotations

import torch

from balancer.config import EncoderConfig
from balancer.embedding.backbones import Backbone, build_backbone
from balancer.embedding.weights import parse_weights, state_from_numpy
from balancer.errors import ConfigError
from balancer.storage.checkpoints import load_encoder
from balancer.storage.filesystem import Store
from balancer.types import EncoderRef


def build_initial(store: Store, config: EncoderConfig, seed: int) -> Backbone:
    """Build the backbone with the weights that the configuration names, or a seeded start."""
    if config.weights in (None, "pretrained"):
        return build_backbone(config, seed=seed)
    assert config.weights is not None
    try:
        data = store.read_bytes(config.weights)
    except FileNotFoundError as error:
        raise ConfigError(
            f"encoder.weights must name an existing file; there is no {config.weights}. "
            f"Check the path or URI."
        ) from error
    return build_backbone(config, load_state=parse_weights(data, config.weights), seed=seed)


def load_trained(store: Store, encoder: EncoderRef, config: EncoderConfig, seed: int) -> Backbone:
    """Build the backbone of a trained or frozen encoder of this run."""
    if encoder.kind == "frozen":
        return build_initial(store, config, seed)
    state, _ = load_encoder(store, encoder.uri)
    return build_backbone(config, load_state=state_from_numpy(state))


def worker_device() -> torch.device:
    """Return the GPU that Ray gave this worker, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(cpus: int) -> None:
    """Fix the threads of torch, so that results do not depend on the machine's cores."""
    torch.set_num_threads(cpus)
