"""Label-free health of an embedding: may a selection made with it be trusted?

Selection inherits the embedding's quality: with a weak one, farthest-point picks can be less
balanced than random ones. These measures need no labels:

- effective rank: RankMe (Garrido et al. 2023, arXiv 2210.02885, eq. 1), the exponential of the
  entropy of the normalised singular values. 1 when all rows are parallel, D when all directions
  are used alike.
- augmentation retrieval: how often the nearest neighbour of a tile's first view, among the second
  views of all tiles, is its own second view.
- alignment and uniformity (Wang & Isola 2020, arXiv 2005.10242): mean squared distance between two
  views of a tile, and log of the mean Gaussian potential `exp(-2 d^2)` between different tiles.
- collapse: share of dimensions that (almost) never change, and the spread of the normalised
  features, `sqrt(D)` times the mean standard deviation of a dimension: 0 when collapsed, near 1
  when the rows point everywhere.
- the shape of the rows (`balancer.embedding.structure`) and what two views of a tile have in common
  (`balancer.embedding.view_agreement`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from balancer.embedding.backbones import Backbone
from balancer.embedding.inference import embed_images, embed_tiles
from balancer.embedding.structure import health_centroids, structure_of
from balancer.embedding.transforms import OverheadViews
from balancer.embedding.view_agreement import view_agreement
from balancer.seeding import derive_seed
from balancer.types import ByteArray, DoubleArray, FloatArray

UNIFORMITY_SCALE = 2.0
"""t of Wang & Isola, section 4.1.2."""
DEAD_STD = 1e-6
"""A dimension of the normalised features below this standard deviation carries nothing."""
COLLAPSED_SPREAD = 0.05
COLLAPSED_RANK = 2.0
LOW_RANK = 10.0
LOW_RETRIEVAL = 0.5
"""Below it farthest-point lost 2 to 12 points of accuracy against random in seven of the eight
embeddings seen; see HIGH_OUTLIER_RATIO."""
HIGH_OUTLIER_RATIO = 1.5
"""Below it farthest-point picks were about as balanced as random ones or better, above it worse:
class-size std over random's 0.55 with MobileNet V2 (1.22), 0.86 to 1.10 with SimCLR of 20 and more
epochs on UC Merced (1.39 to 1.44); 1.03 to 1.45 with SimCLR of 3 to 10 epochs on EuroSAT (1.53 to
1.73), 1.4 to 1.9 with SimCLR of one epoch and an autoencoder on both (1.9 to 3.9). Two that had
seen more of UC Merced drew level in balance at 1.67 and 1.71, and lost 2 and 8 points of accuracy.
Of all measures it and `cluster_variance`, which says the same, rank that lift best (Spearman's rho
-0.90 and -0.97, within sets -0.90 and -0.94, 12 embeddings); `jobs.health_study` makes tables."""
MANY_DEAD = 0.5


@dataclass(frozen=True, slots=True)
class EmbeddingHealth:
    """The measures of one encoder on one sample of tiles; see the module's text."""

    num_tiles: int
    dim: int
    effective_rank: float
    retrieval_at_1: float
    alignment: float
    uniformity: float
    dead_share: float
    spread: float
    intrinsic_dimension: float | None
    hubness: float
    outlier_ratio: float
    leading_variance: float
    spectral_decay: float | None
    cluster_variance: float
    retrieval_at_10: float
    neighbor_agreement: float
    cluster_agreement: float
    lidar: float

    def warnings(self) -> list[str]:
        """Return one sentence for each reason not to trust a selection; empty when healthy."""
        found = self.against_diversity()
        if self.dead_share > MANY_DEAD and not self._collapsed:
            found.append(
                f"{self.dead_share:.0%} of the embedding's {self.dim} dimensions never change "
                f"(trusted up to {MANY_DEAD:.0%}). Training has partly collapsed. Lower the "
                f"learning rate, train longer, or start from pretrained weights."
            )
        return found

    def against_diversity(self) -> list[str]:
        """Return the sentences that speak against diverse picks: `selection.fallback` heeds them.

        Each threshold's text says what it rests on.
        """
        if self._collapsed:
            return [
                f"The embedding has collapsed: the features' spread is {self.spread:.3f} (0 is "
                f"collapsed, about 1 is full) and their effective rank {self.effective_rank:.1f} "
                f"of {self.dim}. All tiles look alike to it, so a selection is close to random. "
                f"Train with a lower learning rate or a larger batch, or start from pretrained "
                f"weights."
            ]
        found = []
        if self.retrieval_at_1 < LOW_RETRIEVAL:
            found.append(
                f"The nearest neighbour of a tile's augmented view is its own second view for "
                f"{self.retrieval_at_1:.0%} of {self.num_tiles} tiles only (trusted from "
                f"{LOW_RETRIEVAL:.0%}). The embedding does not tell tiles apart yet. Train longer "
                f"or start from pretrained weights; until then prefer quotas per cluster to "
                f"farthest-point."
            )
        if self.outlier_ratio > HIGH_OUTLIER_RATIO:
            found.append(
                f"The 1 % most isolated of {self.num_tiles} tiles lie {self.outlier_ratio:.2f} "
                f"times as far from their neighbours as the usual tile (trusted up to "
                f"{HIGH_OUTLIER_RATIO:.2f}). Farthest-point would spend its picks on such odd "
                f"tiles and be less balanced than random. Train longer or start from pretrained "
                f"weights; until then prefer quotas per cluster to farthest-point."
            )
        if self.effective_rank < min(LOW_RANK, self.dim / 2):
            found.append(
                f"The embedding uses about {self.effective_rank:.1f} of its {self.dim} dimensions "
                f"(trusted from {LOW_RANK:.0f}). Distances in it see few differences between "
                f"tiles. Train longer or start from pretrained weights; until then prefer quotas "
                f"per cluster to farthest-point."
            )
        return found

    @property
    def _collapsed(self) -> bool:
        return self.spread < COLLAPSED_SPREAD or self.effective_rank < COLLAPSED_RANK


def embedding_health(first: FloatArray, second: FloatArray, plain: FloatArray) -> EmbeddingHealth:
    """Measure an embedding from two augmented views and the plain form of the same tiles.

    Args:
        first: (N, D) features of the first views; rows need not be normalised.
        second: (N, D) features of the second views.
        plain: (N, D) features of the tiles themselves.

    Raises:
        ValueError: the shapes differ, or there are fewer than two tiles.

    Cost: O(N^2 D) time, 16 N^2 bytes: give it a sample of a few thousand tiles.

    >>> rows = np.eye(4, dtype=np.float32)
    >>> health = embedding_health(rows, rows, rows)
    >>> health.retrieval_at_1, round(health.effective_rank, 3), health.alignment
    (1.0, 4.0, 0.0)
    """
    if not first.shape == second.shape == plain.shape or plain.ndim != 2 or len(plain) < 2:
        raise ValueError(
            f"The views must be (N, D) arrays of the same N >= 2 tiles. "
            f"Got {first.shape}, {second.shape} and {plain.shape} instead."
        )
    one, two, rows = (unit_rows(array) for array in (first, second, plain))
    std = rows.std(axis=0)
    centroids = health_centroids(rows)
    shape, agreement = structure_of(rows, centroids), view_agreement(one, two, rows, centroids)
    return EmbeddingHealth(
        num_tiles=len(rows),
        dim=rows.shape[1],
        effective_rank=effective_rank(rows),
        retrieval_at_1=float(np.mean((one @ two.T).argmax(axis=1) == np.arange(len(rows)))),
        alignment=float(((one - two) ** 2).sum(axis=1).mean()),
        uniformity=uniformity(rows),
        dead_share=float(np.mean(std < DEAD_STD)),
        spread=float(std.mean() * np.sqrt(rows.shape[1])),
        **asdict(shape),
        **asdict(agreement),
    )


def unit_rows(array: FloatArray) -> DoubleArray:
    """Return (N, D) rows at unit length in float64; rows of zeros stay."""
    rows = array.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: DoubleArray = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit


def effective_rank(rows: DoubleArray) -> float:
    """Return RankMe of (N, D) rows: between 1 and min(N, D).

    >>> round(effective_rank(np.eye(3)), 6), round(effective_rank(np.ones((3, 3))), 6)
    (3.0, 1.0)
    """
    singular = np.linalg.svd(rows, compute_uv=False)
    total = singular.sum()
    if total == 0:
        return 1.0
    shares = singular / total
    shares = shares[shares > np.finfo(np.float64).eps]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def uniformity(rows: DoubleArray) -> float:
    """Return the uniformity of (N, D) unit rows: 0 when all are equal, lower is more spread.

    >>> round(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])), 6)
    -8.0
    """
    above = np.triu_indices(len(rows), k=1)
    squared = np.maximum(2.0 - 2.0 * (rows @ rows.T)[above], 0.0)
    return float(np.log(np.mean(np.exp(-UNIFORMITY_SCALE * squared))))


def measure_health(
    backbone: Backbone,
    tiles: ByteArray,
    views: OverheadViews,
    *,
    batch_size: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> EmbeddingHealth | None:
    """Embed two augmented views and the plain form of `tiles`, and measure.

    Tiles whose features are not finite are left out; embedding the archive quarantines them.

    Args:
        backbone: not changed.
        tiles: (N, S, S, 3) uint8, a sample of 500 to 3,000 of the archive's tiles: retrieval gets
            harder with more, so compare runs at the same number.
        views: the augmentation, with the encoder's mean and std.
        batch_size: tiles in one forward pass.
        seed: of the views.
        device: where `backbone` lies.

    Returns:
        The measures; None where fewer than two tiles have finite features.
    """
    starts = range(0, len(tiles), batch_size)
    first, second = (
        embed_images(
            backbone,
            (
                views(tiles[start : start + batch_size], derive_seed(seed, start), device)[which]
                for start in starts
            ),
        )
        for which in range(2)
    )
    plain = embed_tiles(
        backbone, tiles, batch_size=batch_size, mean=views.mean, std=views.std, device=device
    )
    sound = np.isfinite(np.hstack([first, second, plain])).all(axis=1)
    if np.count_nonzero(sound) < 2:
        return None
    return embedding_health(first[sound], second[sound], plain[sound])
