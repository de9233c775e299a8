"""The loss of all strategies: binary cross entropy with weights of tiles and of classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def weighted_bce(
    logits: Tensor,
    targets: Tensor,
    item_weights: Tensor,
    class_weights: Tensor,
    *,
    as_published: bool = False,
) -> Tensor:
    """Return 1/(B C) sum_i w_i sum_c v_c bce(sigmoid(z_ic), y_ic), not renormalised.

    Panigrahi and Zhu, section 5.1, with v = 1. `as_published` is what their code for ADE20K does
    instead: the mean loss times the mean of w. That scales a whole batch, leaves the direction of
    its gradient as it is, and does nothing under Adam, which is invariant to scale.

    Args:
        logits: (B, C).
        targets: (B, C) of 0 and 1.
        item_weights: (B,) w.
        class_weights: (C,) v.
        as_published: see above.

    Returns:
        A scalar.

    >>> one = torch.ones
    >>> round(weighted_bce(torch.zeros(2, 2), one(2, 2), one(2), one(2)).item(), 6)  # log 2
    0.693147
    """
    terms = functional.binary_cross_entropy_with_logits(
        logits, targets, weight=class_weights.expand_as(logits), reduction="none"
    )
    if as_published:
        return terms.mean() * item_weights.mean()
    return (terms * item_weights[:, None]).mean()


def logit_gradient(
    logits: Tensor,
    targets: Tensor,
    item_weights: Tensor,
    class_weights: Tensor,
    *,
    as_published: bool = False,
) -> Tensor:
    """Return the (B, C) gradient of `weighted_bce` by the logits, in closed form.

    >>> one = torch.ones
    >>> logit_gradient(torch.zeros(1, 2), one(1, 2), one(1), one(2)).tolist()
    [[-0.25, -0.25]]
    """
    weights = item_weights.mean() if as_published else item_weights[:, None]
    return (torch.sigmoid(logits) - targets) * (class_weights / logits.numel()) * weights
