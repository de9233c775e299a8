"""A convolutional autoencoder: the features must be enough to paint the tile again, small."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from balancer.config import EncoderConfig, TrainingConfig
from balancer.embedding.backbones import Backbone
from balancer.embedding.self_supervised import SelfSupervisedModel, feature_spread
from balancer.embedding.transforms import OverheadViews

PAINTED_SIZE = 16
"""Side of the reconstruction. Pooled features hold no finer detail, and larger maps cost most."""
SEED_SIZE = 4
DECODER_WIDTHS = (48, 24)
"""Channels at 8 and 16 pixels."""


class ConvAutoencoder(SelfSupervisedModel):
    """Backbone as encoder, a small convolutional decoder, mean squared error.

    The tile is mirrored and turned at random but neither cropped nor recoloured; the target is the
    same image averaged down to 16 pixels.
    """

    def __init__(
        self, backbone: Backbone, encoder: EncoderConfig, training: TrainingConfig
    ) -> None:
        del training
        super().__init__(backbone)
        self.decoder = _decoder(backbone.dim)
        self.views = OverheadViews(
            image_size=encoder.image_size,
            crop_min_scale=1.0,
            color_strength=0.0,
            mean=encoder.mean,
            std=encoder.std,
        )

    def batch_loss(self, tiles: Tensor, seed: int) -> Tensor:
        """Return the mean squared error of the reconstruction, in normalised units."""
        images = self.views.single(tiles, seed, tiles.device)
        features = self.backbone(images)
        self.spread = feature_spread(features)
        target = functional.adaptive_avg_pool2d(images, PAINTED_SIZE)
        return functional.mse_loss(self.decoder(features), target)


def _decoder(dim: int) -> nn.Sequential:
    """(B, dim) -> (B, 3, 16, 16)."""
    channels = DECODER_WIDTHS[0]
    layers: list[nn.Module] = [
        nn.Linear(dim, channels * SEED_SIZE**2),
        nn.Unflatten(1, (channels, SEED_SIZE, SEED_SIZE)),
    ]
    for width in DECODER_WIDTHS:
        layers += [
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1))
