"""The claims of Panigrahi and Zhu judged on a comparison: (a), (b), (c) for every encoder.

Judged twice: on recall, and on the accuracy per class that the paper shows although it says little
of rare classes. As the published loss scales batches and not images, it is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from balancer.comparison.gap_tables import BASELINE, ArmFacts, Group
from balancer.comparison.paired_statistics import PairedTest, paired_tests
from balancer.comparison.verdicts import (
    Verdict,
    judge_oversampling,
    judge_reweighting,
    judge_slopes,
    judge_undersampling,
    rarity_slopes,
)
from balancer.types import DoubleArray

SCORES = ("recall", "accuracy")
DECISION = "thresholds"
"""As published: a threshold per class, for data with one label per image too."""
PLAIN = "plain"


class ClassScores(Protocol):
    """Scores by class and unit, such as `labeled_summary.UnitScores`."""

    def classes(
        self, score: str, decision: str, names: Sequence[str]
    ) -> dict[Group, dict[str, DoubleArray]]:
        """Return (U,) means of a score over some classes, by group and arm."""


def claim_rows(
    scores: ClassScores, facts: Mapping[str, Any], arms: Sequence[ArmFacts], low: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield every verdict, JSON.

    Args:
        scores: of two or more units.
        facts: of the comparison: `classes`, and `parts` with images per class.
        arms: all of them.
        low: names of the low-frequency classes.
    """
    rest = [name for name in facts["classes"] if name not in set(low)]
    counts = np.array([facts["parts"]["train"][name] for name in low])
    for score in SCORES:
        tables = {
            "low": scores.classes(score, DECISION, low),
            "rest": scores.classes(score, DECISION, rest),
        }
        tables |= {name: scores.classes(score, DECISION, [name]) for name in facts["classes"]}
        for group in tables["low"]:
            if group[2] != PLAIN:
                continue
            values = {name: table[group] for name, table in tables.items() if group in table}
            for verdict in _judge(values, arms, (list(low), rest), counts):
                yield {
                    "encoder": group[0],
                    "updates": group[1],
                    "score": score,
                    "claim": verdict.claim,
                    "statement": verdict.statement,
                    "verdict": verdict.outcome,
                    "sentence": verdict.sentence,
                }


def _judge(
    values: Mapping[str, Mapping[str, DoubleArray]],
    arms: Sequence[ArmFacts],
    classes: tuple[list[str], list[str]],
    counts: np.ndarray,
) -> Iterator[Verdict]:
    low, rest = classes
    for published in (False, True):
        names = _labels(arms, "reweight", published=published)
        if names:
            tests = {
                part: paired_tests(
                    {name: values[part][name] for name in names}, values[part][BASELINE]
                )
                for part in ("low", "rest")
                if part in values
            }
            for verdict in judge_reweighting(tests):
                suffix = ", loss as published" if published else ""
                yield Verdict(
                    verdict.claim + suffix, verdict.statement, verdict.outcome, verdict.sentence
                )
    if not rest:
        return
    for name in _labels(arms, "undersample", published=False)[:1]:
        whole = _tests(values, name, ["low", "rest"])
        yield from judge_undersampling(whole["low"], whole["rest"], _tests(values, name, rest))
    for name in _labels(arms, "oversample", published=False)[:1]:
        yield from judge_oversampling(
            _tests(values, name, ["low"])["low"], _tests(values, name, rest)
        )
        gains = np.stack([values[c][name] - values[c][BASELINE] for c in low], axis=1)
        yield judge_slopes(rarity_slopes(gains, counts))


def _labels(arms: Sequence[ArmFacts], strategy: str, *, published: bool) -> list[str]:
    return [a.label for a in arms if a.strategy == strategy and a.published == published]


def _tests(
    values: Mapping[str, Mapping[str, DoubleArray]], arm: str, parts: Sequence[str]
) -> dict[str, PairedTest]:
    """Test one arm on several classes, or groups of them, corrected together."""
    differences = {part: values[part][arm] - values[part][BASELINE] for part in parts}
    zeros = np.zeros(len(next(iter(differences.values()))))
    return paired_tests(differences, zeros)
