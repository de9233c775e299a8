"""What balancing buys on a labeled archive: class balance and probe accuracy over pools."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from balancer.comparison.probes import linear_probe
from balancer.imbalance.measures import count_labels, effective_number
from balancer.seeding import derive_seed
from balancer.selection.quotas import water_filling
from balancer.selection.uniform import lowest_hashes
from balancer.types import FloatArray, IdArray

RANDOM, ORACLE, FALLBACK = "random", "oracle", "fallback"


@dataclass(frozen=True, slots=True)
class LabeledRows:
    """Tiles with ids (N,), features (N, D) float32 and class names (N,)."""

    ids: IdArray
    features: FloatArray
    labels: IdArray


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One method in one round of one pool.

    Attributes:
        variant: which encoder or setting.
        pool: number of the pool.
        round_index: from 0.
        method: strategy, `random` (mean of repeats) or `oracle` (class-balanced with labels).
        class_std: standard deviation of the class sizes, in tiles.
        std_ratio: the same over random's.
        effective_classes: exp(entropy) of the class shares.
        missing_classes: classes without a tile.
        accuracy: macro accuracy of the linear probe.
        gain: accuracy over random's, in points.
        weighted_gain: the same with class-weighted probes.
        gap_closed: gain over the oracle's gain.

    A ratio to nothing is NaN.
    """

    variant: str
    pool: int
    round_index: int
    method: str
    class_std: float
    std_ratio: float
    effective_classes: float
    missing_classes: float
    accuracy: float
    gain: float
    weighted_gain: float
    gap_closed: float


def class_balanced_ids(ids: IdArray, labels: IdArray, budget: int, seed: int) -> IdArray:
    """Pick an equal number per class at random: what labels would allow."""
    classes, sizes = np.unique(labels, return_counts=True)
    counts = water_filling(sizes, budget, seed=seed).counts
    parts = []
    for name, count in zip(classes, counts, strict=True):
        members = ids[labels == name]
        own = derive_seed(seed, "oracle", str(name))
        parts.append(members[lowest_hashes(members, int(count), seed=own)])
    return np.concatenate(parts)


def study_round(
    pool: LabeledRows,
    test: LabeledRows,
    selections: Mapping[str, Sequence[IdArray]],
    *,
    variant: str,
    pool_number: int,
    round_index: int,
) -> list[StudyRow]:
    """Score every method of one round.

    Args:
        pool: the archive's tiles in this round's embedding.
        test: a balanced test set in the same embedding.
        selections: ids picked by each method, one array per repeat; must hold `random`.
        variant: recorded in the rows.
        pool_number: recorded in the rows.
        round_index: recorded in the rows.
    """
    classes = np.unique(pool.labels).tolist()
    place = {name: row for row, name in enumerate(pool.ids.tolist())}
    found: dict[str, tuple[float, ...]] = {}
    for method, repeats in selections.items():
        scores = []
        for picked in repeats:
            rows = np.array([place[name] for name in picked.tolist()])
            counts = count_labels(pool.labels[rows].tolist(), classes)
            probe = linear_probe(pool.features[rows], pool.labels[rows], test.features, test.labels)
            scores.append(
                (
                    float(np.std(counts)),
                    effective_number(counts),
                    float((counts == 0).sum()),
                    probe.plain,
                    probe.weighted,
                )
            )
        found[method] = tuple(np.mean(scores, axis=0).tolist())
    random, oracle = found[RANDOM], found[ORACLE]
    return [
        StudyRow(
            variant=variant,
            pool=pool_number,
            round_index=round_index,
            method=method,
            class_std=std,
            std_ratio=_ratio(std, random[0]),
            effective_classes=effective,
            missing_classes=missing,
            accuracy=100 * plain,
            gain=100 * (plain - random[3]),
            weighted_gain=100 * (weighted - random[4]),
            gap_closed=_ratio(plain - random[3], oracle[3] - random[3]),
        )
        for method, (std, effective, missing, plain, weighted) in found.items()
    ]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole != 0 else math.nan


def summarize(rows: Sequence[StudyRow]) -> list[str]:
    """Return a Markdown table: mean and standard deviation (ddof 1) over pools.

    The share of the gap closed is the ratio of the mean gains, not the mean of ratios, because a
    pool where the oracle gains nothing would otherwise decide it.
    """
    lines = [
        "| encoder | round | method | class std | / random's (worst pool) | effective classes "
        "| macro accuracy | over random | class-weighted probes | gap closed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row.variant, row.round_index, row.method) for row in rows)
    for variant, round_index, method in keys:
        here = [row for row in rows if (row.variant, row.round_index) == (variant, round_index)]
        mine = [row for row in here if row.method == method]
        best = [row for row in here if row.method == ORACLE]
        gain, oracle = np.mean([r.gain for r in mine]), np.mean([r.gain for r in best])
        closed = f"{gain / oracle:.0%}" if oracle > 0 and method not in (RANDOM, ORACLE) else ""
        ratios = [r.std_ratio for r in mine]
        lines.append(
            f"| {variant} | {round_index} | {method} "
            f"| {_spread([r.class_std for r in mine], '.1f')} "
            f"| {_spread(ratios, '.2f')} ({max(ratios):.2f}) "
            f"| {_spread([r.effective_classes for r in mine], '.1f')} "
            f"| {_spread([r.accuracy for r in mine], '.1f')} "
            f"| {_spread([r.gain for r in mine], '+.1f')} "
            f"| {_spread([r.weighted_gain for r in mine], '+.1f')} | {closed} |"
        )
    return lines


def _spread(values: Sequence[float], form: str) -> str:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} ± {deviation:{form.lstrip('+')}}"
