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

from balancer.comparison.gap_statistics import (
    EquivalentSize,
    GapClosed,
    equivalent_random_size,
    gap_closed,
)
from balancer.comparison.paired_statistics import Interval, mean_interval, paired_tests
from balancer.seeding import child_generator
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
        tests = paired_tests(others, found[BASELINE])
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
                "difference": test.difference.mean if test else 0.0,
                "low": test.difference.low if test else None,
                "high": test.difference.high if test else None,
                "p": test.p_value if test else None,
                "p_corrected": test.adjusted if test else None,
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
            if len(own) < 2:
                continue
            gain, closed = mean_interval(own - low), gap_closed(own, low, high)
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
                "gap": closed.gap.mean,
                "gap_low": closed.gap.low,
                "gap_high": closed.gap.high,
                "closed": closed.share,
                "closed_low": closed.low,
                "closed_high": closed.high,
                "has_gap": closed.has_gap,
                "sentence": _closed_words(encoder, arm, gain, closed),
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
        scores = np.stack([found[arm.label] for arm in curve], axis=1)
        if len(scores) < 2:
            continue
        for arm in arms:
            if arm.label not in found or arm.strategy not in (*DIVERSE, BALANCED, "manifest"):
                continue
            rng = child_generator(0, "equivalent", encoder, updates, loss, score, arm.label)
            own = round(arm.num_images)
            size = equivalent_random_size(sizes, scores, found[arm.label], own, rng)
            yield {
                "encoder": encoder,
                "updates": updates,
                "loss": loss,
                "score": score,
                "method": arm.label,
                "num_images": arm.num_images,
                "random_images": size.size,
                "random_low": size.low,
                "random_high": size.high,
                "factor": size.factor,
                "words": _size_words(size, sizes),
            }


def _closed_words(encoder: str, arm: ArmFacts, gain: Interval, closed: GapClosed) -> str:
    points = (
        f"{100 * gain.mean:+.1f} points over random "
        f"({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    )
    labeled = ", picked with labels" if arm.strategy == "diverse_per_class" else ""
    who = f"{encoder}, {arm.label}, {arm.num_images:,.0f} images{labeled}"
    if not closed.has_gap:
        return (
            f"{who}: {points}; the gap to class-balanced images, {100 * closed.gap.mean:+.1f} "
            f"points, is not told from nothing, so no share of it is."
        )
    share = f"{closed.share:.0%} of the gap ({closed.low:.0%} to {closed.high:.0%})"
    null = " The share is not told from nothing." if closed.low <= 0 <= closed.high else ""
    return f"{who}: closes {share}, {points}.{null}"


def _size_words(size: EquivalentSize, sizes: DoubleArray) -> str:
    def named(value: float) -> str:
        if math.isinf(value):
            return f"more than {sizes[-1]:,.0f}"
        return f"at most {value:,.0f}" if value <= sizes[0] else f"{value:,.0f}"

    return f"{named(size.size)} ({named(size.low)} to {named(size.high)})"


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
