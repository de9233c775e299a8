"""Building the encoder of a run on a worker: from its configuration and stored weights."""

from __future__ import annotations

import hashlib

import torch

from balancer.config import EncoderConfig, digest_json
from balancer.embedding.backbones import Backbone, build_backbone
from balancer.embedding.weights import parse_weights, state_from_numpy, state_to_numpy
from balancer.errors import ConfigError, DataError
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
        backbone = build_initial(store, config, seed)
        if frozen_fingerprint(config, backbone) != encoder.fingerprint:
            raise DataError(
                "A frozen encoder must stay as it was when the run began; its weights have other "
                "bytes now. Restore the weights file or the factory, or use another --out."
            )
        return backbone
    state, _ = load_encoder(store, encoder.uri)
    return build_backbone(config, load_state=state_from_numpy(state))


def frozen_fingerprint(config: EncoderConfig, backbone: Backbone) -> str:
    """Return the fingerprint of a frozen encoder: its configuration and every weight."""
    digest = hashlib.sha256()
    for name, array in sorted(state_to_numpy(backbone.network).items()):
        digest.update(name.encode() + array.tobytes())
    return digest_json([config.model_dump(mode="json"), digest.hexdigest()])


def worker_device() -> torch.device:
    """Return the GPU that Ray gave this worker, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(cpus: int) -> None:
    """Fix the threads of torch, so that results do not depend on the machine's cores."""
    torch.set_num_threads(cpus)
