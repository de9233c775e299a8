"""The weighted loss by hand, and the fault that made published reweighting do nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from balancer.comparison.losses import logit_gradient, weighted_bce

TARGETS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
LOGITS = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])  # probabilities .5 .5, .75 .5
ONES = torch.ones(2)
# Terms: log 2, log 2; log 4, log 2.


def test_by_hand() -> None:
    k = torch.tensor([1.0, 10.0])  # the second tile has a low-frequency label
    expected = (2 * math.log(2) + 10 * (math.log(4) + math.log(2))) / 4
    assert weighted_bce(LOGITS, TARGETS, k, ONES).item() == pytest.approx(expected)
    classes = torch.tensor([3.0, 1.0])
    expected = (3 * math.log(2) + math.log(2) + 3 * math.log(4) + math.log(2)) / 4
    assert weighted_bce(LOGITS, TARGETS, ONES, classes).item() == pytest.approx(expected)


def test_weight_one_is_the_mean() -> None:
    plain = functional.binary_cross_entropy_with_logits(LOGITS, TARGETS)
    assert weighted_bce(LOGITS, TARGETS, ONES, ONES).item() == pytest.approx(plain.item())
    probabilities = torch.sigmoid(LOGITS)
    assert functional.binary_cross_entropy(probabilities, TARGETS).item() == pytest.approx(
        plain.item()
    )


def test_as_published_by_hand() -> None:
    k = torch.tensor([1.0, 10.0])
    share_low, mean = 0.5, weighted_bce(LOGITS, TARGETS, ONES, ONES).item()
    found = weighted_bce(LOGITS, TARGETS, k, ONES, as_published=True).item()
    assert found == pytest.approx(mean * (1 + (10 - 1) * share_low))


def mixed_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return inputs, targets, weights (3 of 10 tiles have a low label, k = 10), and a model."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(10, 6, generator=generator)
    targets = (torch.rand(10, 4, generator=generator) < 0.4).float()
    targets[:, 3] = torch.tensor([1.0] * 3 + [0.0] * 7)
    weight = torch.randn(4, 6, generator=generator)
    return inputs, targets, torch.where(targets[:, 3] > 0, 10.0, 1.0), weight


@pytest.mark.parametrize("as_published", [False, True])
def test_direction_of_the_gradient(as_published: bool) -> None:
    inputs, targets, k, weight = mixed_batch()
    gradients = []
    for weights in (torch.ones(10), k):
        free = weight.clone().requires_grad_()
        weighted_bce(
            inputs @ free.T, targets, weights, torch.ones(4), as_published=as_published
        ).backward()
        assert free.grad is not None
        gradients.append(free.grad.flatten())
    cosine = functional.cosine_similarity(gradients[0], gradients[1], dim=0).item()
    if as_published:
        assert cosine == pytest.approx(1, abs=1e-6)
        # 1 + 9 * 0.3, the same in every entry.
        assert (gradients[1] / gradients[0]).tolist() == pytest.approx([3.7] * 24, rel=1e-3)
    else:
        assert cosine < 0.95


def test_adam_does_not_see_a_constant_scale() -> None:
    inputs, targets, _, weight = mixed_batch()
    ends = []
    for scale in (1.0, 3.7):
        free = weight.double().requires_grad_()
        adam = torch.optim.Adam([free], lr=1e-3)
        for _ in range(50):
            adam.zero_grad()
            logits = inputs.double() @ free.T
            loss = functional.binary_cross_entropy_with_logits(logits, targets.double())
            (scale * loss).backward()
            adam.step()
        ends.append(free.detach())
    assert (ends[0] - ends[1]).abs().max().item() < 1e-6


@pytest.mark.parametrize("as_published", [False, True])
def test_closed_gradient_is_that_of_autograd(as_published: bool) -> None:
    inputs, targets, k, weight = mixed_batch()
    classes = torch.tensor([0.5, 1.0, 2.0, 4.0])
    logits = (inputs @ weight.T).requires_grad_()
    weighted_bce(logits, targets, k, classes, as_published=as_published).backward()
    found = logit_gradient(logits.detach(), targets, k, classes, as_published=as_published)
    torch.testing.assert_close(found, logits.grad, rtol=1e-5, atol=1e-7)
