"""SimCLR (Chen et al. 2020, arXiv 2002.05709) for overhead imagery."""

from __future__ import annotations

from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from balancer.config import EncoderConfig, TrainingConfig
from balancer.embedding.backbones import Backbone
from balancer.embedding.lightly_views import LightlyViews
from balancer.embedding.self_supervised import SelfSupervisedModel, feature_spread
from balancer.embedding.transforms import OverheadViews


class SimCLR(SelfSupervisedModel):
    """Backbone, lightly's projection head and lightly's NT-Xent loss.

    Each view goes through the backbone by itself, so batch normalisation sees one view at a time,
    as in lightly's examples; it also keeps activations within the allocator's reuse limit, which
    on a CPU is worth a quarter of the time.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: EncoderConfig,
        training: TrainingConfig,
        *,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(backbone)
        self.projection_head = SimCLRProjectionHead(
            backbone.dim, backbone.dim, training.projection_dim
        )
        self.criterion = NTXentLoss(
            temperature=training.temperature, gather_distributed=gather_distributed
        )
        batched = OverheadViews(
            image_size=encoder.image_size,
            crop_min_scale=training.crop_min_scale,
            color_strength=training.color_strength,
            mean=encoder.mean,
            std=encoder.std,
        )
        self.views = LightlyViews(batched) if training.augmentation == "lightly" else batched

    def batch_loss(self, tiles: Tensor, seed: int) -> Tensor:
        """Return the contrastive loss between two views of each tile."""
        first, second = self.views(tiles, seed, tiles.device)
        return self.training_loss(first, second)

    def training_loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the NT-Xent loss of two views, each (B, 3, S, S)."""
        features = self.backbone(first)
        self.spread = feature_spread(features)
        loss: Tensor = self.criterion(
            self.projection_head(features), self.projection_head(self.backbone(second))
        )
        return loss
