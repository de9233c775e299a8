"""The self-supervised models by name."""

from __future__ import annotations

import torch

from balancer.config import EncoderConfig, TrainingConfig
from balancer.embedding.backbones import Backbone
from balancer.embedding.self_supervised import SelfSupervisedModel
from balancer.seeding import derive_seed


def build_model(
    encoder: EncoderConfig,
    training: TrainingConfig,
    backbone: Backbone,
    *,
    seed: int = 0,
    gather_distributed: bool = False,
) -> SelfSupervisedModel:
    """Put the head that `encoder.kind` names on a backbone.

    Args:
        encoder: `kind` is `simclr` or `autoencoder`.
        training: temperature, projection and augmentation.
        backbone: becomes part of the model, and is trained.
        seed: of the head's initial weights.
        gather_distributed: SimCLR takes negatives from all data-parallel workers.

    Raises:
        ValueError: `encoder.kind` is `frozen`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "head"))
        # lightly takes seconds to import, and only training needs it: embedding workers do not.
        if encoder.kind == "simclr":
            from balancer.embedding.simclr import SimCLR

            return SimCLR(backbone, encoder, training, gather_distributed=gather_distributed)
        if encoder.kind == "autoencoder":
            from balancer.embedding.autoencoder import ConvAutoencoder

            return ConvAutoencoder(backbone, encoder, training)
    raise ValueError(
        f"The 'encoder' parameter must have the kind simclr or autoencoder to be trained. "
        f"Got {encoder.kind} instead."
    )
