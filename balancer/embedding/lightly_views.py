"""lightly's own SimCLR transform, tile by tile: `training.augmentation: lightly`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from balancer.embedding.transforms import JITTER_PROBABILITY, OverheadViews
from balancer.types import ByteArray


class LightlyViews:
    """Two views from lightly's transform, one PIL image at a time on the CPU.

    The distribution of `OverheadViews`, and the oracle that its tests compare it with.

    Args:
        views: sizes, strengths and normalisation.
    """

    def __init__(self, views: OverheadViews) -> None:
        self._transform = SimCLRTransform(
            input_size=views.image_size,
            min_scale=views.crop_min_scale,
            cj_prob=JITTER_PROBABILITY,
            cj_strength=views.color_strength,
            cj_hue=0.0,
            random_gray_scale=0.0,
            gaussian_blur=0.0,
            hf_prob=0.5,
            vf_prob=0.5,
            rr_prob=0.5,
            normalize={"mean": list(views.mean), "std": list(views.std)},
        )

    def __call__(
        self, tiles: ByteArray | Tensor, seed: int, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Return two views of (B, H, W, 3) uint8 tiles, each (B, 3, S, S) float32, normalised.

        lightly draws from the global generators of torch and numpy: both are seeded, and restored
        afterwards.
        """
        numpy_state = np.random.get_state()  # noqa: NPY002 -- lightly draws from it
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                pairs: Any = [self._transform(to_pil_image(tile)) for tile in _arrays(tiles)]
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
        first, second = torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
        return first.to(device), second.to(device)


def _arrays(tiles: ByteArray | Tensor) -> ByteArray:
    return tiles.cpu().numpy() if isinstance(tiles, Tensor) else tiles
