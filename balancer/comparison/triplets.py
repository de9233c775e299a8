"""Triplet loss on squared distances, and the mining of hard negatives.

The lecture's loss: sum max(0, ||f(x) - f(x+)||^2 - ||f(x) - f(x-)||^2 + eps). (It is not
`torch.nn.TripletMarginLoss`, whose distances are not squared.)
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Mining = Literal["hardest", "semi-hard"]
COLLAPSED = 1e-12
"""Greatest squared distance, relative to the squared length, at which embeddings are one point."""


def squared_distances(features: Tensor) -> Tensor:
    """Return the (B, B) squared distances between rows of (B, D), by differences: exact at 0.

    >>> squared_distances(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5]]))[0].tolist()
    [0.0, 1.0, 2.25]
    """
    return (features[:, None] - features[None]).square().sum(dim=2)


def triplet_loss(squared: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """Return the (T,) losses max(0, d2(a, p) - d2(a, n) + margin).

    Args:
        squared: (B, B) squared distances.
        triplets: (T, 3) int64 rows of anchor, positive, negative.
        margin: eps.

    >>> squared = squared_distances(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5]]))
    >>> [triplet_loss(squared, torch.tensor([[0, 1, 2]]), eps).item() for eps in (0.5, 2.0)]
    [0.0, 0.75]
    """
    anchor, positive, negative = triplets.unbind(1)
    return (squared[anchor, positive] - squared[anchor, negative] + margin).clamp(min=0)


def mine_triplets(squared: Tensor, groups: Tensor, margin: float, mining: Mining) -> Tensor:
    """Return one triplet for every pair of different rows of one group.

    `hardest`: the negative is the anchor's nearest row of another group. `semi-hard`: it is the
    nearest with d2(a, p) < d2(a, n) < d2(a, p) + margin; pairs without one give no triplet.

    Args:
        squared: (B, B) squared distances.
        groups: (B,) int64 class of each row.
        margin: of the loss.
        mining: which of the two.

    Returns:
        (T, 3) int64 rows of anchor, positive, negative, in order of anchor and positive; ties go to
        the lower row.

    Raises:
        ValueError: an unknown rule.

    Cost: O(B^2), `semi-hard` O(B^3) memory.

    >>> squared = squared_distances(torch.tensor([[0.0], [1.0], [1.2], [9.0]]))
    >>> groups = torch.tensor([0, 0, 1, 1])
    >>> mine_triplets(squared, groups, 1.0, "hardest").tolist()
    [[0, 1, 2], [1, 0, 2], [2, 3, 1], [3, 2, 1]]
    >>> mine_triplets(squared, groups, 1.0, "semi-hard").tolist()
    [[0, 1, 2]]
    """
    if mining not in get_args(Mining):
        raise ValueError(f"mining must be one of {', '.join(get_args(Mining))}; got {mining!r}.")
    same = groups[:, None] == groups[None]
    infinite = torch.full_like(squared, float("inf"))
    pairs = (same & ~torch.eye(len(groups), dtype=torch.bool, device=same.device)).nonzero()
    anchor, positive = pairs.unbind(1)
    candidates = torch.where(same, infinite, squared)[anchor]
    if mining == "semi-hard":
        near = squared[anchor, positive][:, None]
        within = (candidates > near) & (candidates < near + margin)
        candidates = torch.where(within, candidates, torch.full_like(candidates, float("inf")))
    if candidates.numel() == 0:
        return pairs.new_empty((0, 3))
    distance, negative = candidates.min(dim=1)
    return torch.cat([pairs, negative[:, None]], dim=1)[torch.isfinite(distance)]


def is_collapsed(features: Tensor) -> bool:
    """Return whether all rows (B, D) are one point: then every triplet's loss is the margin.

    >>> is_collapsed(torch.ones(3, 2)), is_collapsed(torch.eye(2))
    (True, False)
    """
    spread = (features - features[:1]).square().sum(dim=1).max()
    return bool(spread <= COLLAPSED * features.square().sum(dim=1).max())
