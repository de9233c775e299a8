"""CLIP's image encoder through open_clip, as a backbone factory (`encoder.factory`).

CLIP's own preprocessing is `encoder.resize: crop-bicubic`, `encoder.image_size` its input size, and
`encoder.mean` and `encoder.std` its own: configs/compare-planet.yaml has them for ViT-B/32.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn

from balancer.errors import ConfigError


class ImageTower(nn.Module):
    """The image half of a CLIP model.

    Args:
        model: an open_clip model with `encode_image`; its text half is dropped.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - open_clip has no types
        super().__init__()
        self.visual: nn.Module = model.visual

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, D) image features, not normalised, as `encode_image` does."""
        features: Tensor = self.visual(images)
        return features


def image_encoder(model: str = "ViT-B-32-quickgelu", pretrained: str = "openai") -> nn.Module:
    """Build CLIP's image encoder, downloading its weights at first use.

    Args:
        model: open_clip's name; OpenAI's weights need the `-quickgelu` variant.
        pretrained: open_clip's name of the weights, or the path of a weights file.

    Raises:
        ConfigError: open_clip is not installed, or does not know the model or weights.
    """
    try:
        open_clip: Any = importlib.import_module("open_clip")
    except ImportError as error:
        raise ConfigError(
            f"CLIP needs the package open_clip_torch; importing it failed ({error}). Install the "
            f"extra with pip install 'balancer[clip]'."
        ) from error
    try:
        found = open_clip.create_model(model, pretrained=pretrained)
    except Exception as error:
        raise ConfigError(
            f"open_clip must build {model} with the weights {pretrained}, and download them; got "
            f"{type(error).__name__}: {error}. Check the names (open_clip.list_pretrained()) and "
            f"the network connection."
        ) from error
    return ImageTower(found)
