"""Tables of a comparison: arms against the baseline, gaps closed, random images that match.

Every number is paired over the same units (pools, or seeds). Diverse arms are compared with random
and class-balanced ones of the same target, so of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from balancer.comparison.paired_statistics import (
    compare_paired,
    equivalent_random_size,
    gap_closed,
    mean_interval,
)
from balancer.types import DoubleArray

BASELINE, RANDOM, BALANCED = "baseline", "random", "undersample"
DIVERSE = ("diverse", "diverse_per_class")
HIGHEST_CLOSED = 10.0
"""Ends of an interval beyond this share say only that the gap is not told from nothing."""


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What tables must know of an arm.

    Attributes:
        label: in tables.
        strategy: its name.
        target: tiles per class that its size follows, if any.
        num_images: different training images, mean over all heads.
        published: whether it repeats a fault of the published code.
    """

    label: str
    strategy: str
    target: int | None
    num_images: float
    published: bool


Group = tuple[str, str, str]
"""Encoder, updates, loss."""
Values = Mapping[Group, Mapping[str, DoubleArray]]
"""(U,) scores by group and arm."""


def overall_rows(
    values: Values, score: str, decision: str, arms: Sequence[ArmFacts]
) -> Iterator[dict[str, Any]]:
    """Yield every arm's mean and its paired difference to the baseline, Holm-corrected."""
    for (encoder, updates, loss), found in values.items():
        names = [arm for arm in arms if arm.label in found]
        others = {arm.label: found[arm.label] for arm in names if arm.label != BASELINE}
        tests = compare_paired(found[BASELINE], others)
        for arm in names:
            test = tests.get(arm.label)
            yield {
                "encoder": encoder,
                "updates": updates,
                "loss": loss,
                "decision": decision,
                "score": score,
                "arm": arm.label,
                "num_images": arm.num_images,
                "mean": float(found[arm.label].mean()),
                "difference": test.mean if test else 0.0,
                "low": test.low if test else None,
                "high": test.high if test else None,
                "p": test.p_value if test else None,
                "p_corrected": test.p_holm if test else None,
            }


def gap_rows(values: Values, score: str, arms: Sequence[ArmFacts]) -> Iterator[dict[str, Any]]:
    """Yield, for every diverse arm with a target, what it closes of random to class-balanced."""
    for (encoder, updates, loss), found in values.items():
        for arm in arms:
            random = _of(arms, RANDOM, arm.target)
            balanced = _of(arms, BALANCED, arm.target)
            if arm.strategy not in DIVERSE or arm.label not in found:
                continue
            if arm.target is None or random is None or balanced is None:
                continue
            own, low, high = found[arm.label], found[random.label], found[balanced.label]
            gain, gap = mean_interval(own - low), mean_interval(high - low)
            closed = gap_closed(low, high, own)
            yield {
                "encoder": encoder,
                "updates": updates,
                "loss": loss,
                "score": score,
                "method": arm.label,
                "num_images": arm.num_images,
                "random": float(low.mean()),
                "balanced": float(high.mean()),
                "value": float(own.mean()),
                "gain": gain.mean,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "gap": gap.mean,
                "gap_low": gap.low,
                "gap_high": gap.high,
                "closed": closed.mean,
                "closed_low": closed.low,
                "closed_high": closed.high,
            }


def match_rows(values: Values, score: str, arms: Sequence[ArmFacts]) -> Iterator[dict[str, Any]]:
    """Yield how many random images give the score of every arm that picks images."""
    for (encoder, updates, loss), found in values.items():
        curve = sorted(
            (arm for arm in arms if arm.strategy == RANDOM and arm.label in found),
            key=lambda arm: arm.num_images,
        )
        if len(curve) < 2:
            continue
        sizes = np.array([arm.num_images for arm in curve])
        scores = np.stack([found[arm.label] for arm in curve])
        for arm in arms:
            if arm.label not in found or arm.strategy not in (*DIVERSE, BALANCED, "manifest"):
                continue
            size = equivalent_random_size(sizes, scores, found[arm.label])
            yield {
                "encoder": encoder,
                "updates": updates,
                "loss": loss,
                "score": score,
                "method": arm.label,
                "num_images": arm.num_images,
                "random_images": size.mean,
                "random_low": size.low,
                "random_high": size.high,
            }


def _of(arms: Sequence[ArmFacts], strategy: str, target: int | None) -> ArmFacts | None:
    """Return the first arm of a strategy with a target that repeats no published fault."""
    found = (
        arm
        for arm in arms
        if arm.strategy == strategy and arm.target == target and not arm.published
    )
    return next(found, None)


def finite(value: object) -> object:
    """Return a JSON tree in which numbers that are not finite are null."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
