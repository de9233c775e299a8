"""Results of a comparison in brief: means with intervals, tests, gaps closed, verdicts.

Units of all statistics are the pools, seeds of a pool averaged first; without pools the seeds.
Long-tailed pools give every class another place in the tail: their classes are told by place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.comparison.cells import ALL, CLASS, OVERALL, PER_CLASS
from balancer.comparison.claim_table import claim_rows
from balancer.comparison.gap_tables import (
    ArmFacts,
    Group,
    finite,
    gap_rows,
    match_rows,
    overall_rows,
)
from balancer.comparison.labeled_comparison import Compared, place_names
from balancer.comparison.paired_statistics import mean_interval
from balancer.imbalance.low_frequency import low_frequency
from balancer.storage.filesystem import Store
from balancer.storage.tables import write_table
from balancer.types import DoubleArray
from balancer.version import __version__

WORST_GROUP = "worst_group_recall"
SUMMARY, FACTS = "summary.parquet", "comparison.json"
CELL = ("encoder", "arm", "strategy", "level", "updates", "loss", "decision")
COUNTS = ("num_rows", "num_distinct", "num_updates", "class_std", "missing_classes")
SUMMARY_SCHEMA = pa.schema(
    [
        pa.field(name, kind, metadata={"description": description})
        for name, kind, description in [
            ("encoder", pa.string(), "as in results.parquet, likewise up to name"),
            ("arm", pa.string(), "strategy with its level"),
            ("strategy", pa.string(), "name of the strategy"),
            ("level", pa.float64(), "its number, NaN if it has none"),
            ("updates", pa.string(), "equal-epochs or equal-updates"),
            ("loss", pa.string(), "plain or class-weighted"),
            ("decision", pa.string(), "top1 or thresholds"),
            ("scope", pa.string(), "class, all, or group:COLUMN"),
            ("name", pa.string(), "of the class or group"),
            ("score", pa.string(), "column of results.parquet"),
            ("mean", pa.float64(), "over units"),
            ("low", pa.float64(), "lower end of the 95 % t-interval; NaN for one unit"),
            ("high", pa.float64(), "its upper end"),
            ("num_units", pa.int64(), "pools, or seeds where there is one pool"),
        ]
    ]
)


class UnitScores:
    """Scores of every head by unit, for paired comparisons.

    Args:
        results: rows of `cells.RESULT_SCHEMA`.
        by_place: tell classes by their place in the tail.
    """

    def __init__(self, results: pa.Table, *, by_place: bool = False) -> None:
        pools = set(results["pool"].to_pylist())
        self.unit = "pool" if len(pools) > 1 else "seed"
        self.units = sorted(set(results[self.unit].to_pylist()))
        self._table = _by_place(results) if by_place else results
        self._means: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def summary(self) -> pa.Table:
        """Return `SUMMARY_SCHEMA`: every score's mean and interval over units."""
        scores = [*PER_CLASS, *OVERALL, *COUNTS, "train_count"]
        keys = [*CELL, "scope", "name"]
        means = self._by_unit(keys, scores)
        rows: list[dict[str, Any]] = []
        for place, group in _groups(means, keys):
            facts = dict(zip(keys, place, strict=True))
            for score in scores:
                values = np.array([row[f"{score}_mean"] for row in group], dtype=np.float64)
                known = values[np.isfinite(values)]
                if len(known) == 0:
                    continue
                value = mean_interval(known)
                rows.append(
                    facts
                    | {"score": score, "mean": value.mean, "low": value.low,
                       "high": value.high, "num_units": len(known)}
                )  # fmt: skip
        return pa.Table.from_pylist(rows, schema=SUMMARY_SCHEMA)

    def overall(self, score: str, decision: str) -> dict[Group, dict[str, DoubleArray]]:
        """Return (U,) values of a score over all classes, by group and arm, in unit order."""
        return self._values(score, decision, ALL, None)

    def classes(
        self, score: str, decision: str, names: Sequence[str]
    ) -> dict[Group, dict[str, DoubleArray]]:
        """Return (U,) means of a score over some classes, without those where it is not defined."""
        return self._values(score, decision, CLASS, set(names))

    def _values(
        self, score: str, decision: str, scope: str, names: set[str] | None
    ) -> dict[Group, dict[str, DoubleArray]]:
        keys = ["encoder", "updates", "loss", "arm", "decision", "scope", "name"]
        found: dict[Group, dict[str, list[DoubleArray]]] = {}
        for place, group in _groups(self._by_unit(keys, [score]), keys):
            encoder, updates, loss, arm = map(str, place[:4])
            if place[4:6] != (decision, scope) or (names is not None and place[6] not in names):
                continue
            values = {row[self.unit]: row[f"{score}_mean"] for row in group}
            array = np.array([values[unit] for unit in self.units], dtype=np.float64)
            found.setdefault((encoder, updates, loss), {}).setdefault(arm, []).append(array)
        return {
            group: {arm: np.nanmean(arrays, axis=0) for arm, arrays in arms.items()}
            for group, arms in found.items()
        }

    def _by_unit(self, keys: Sequence[str], scores: Sequence[str]) -> list[dict[str, Any]]:
        place = (*keys, *scores)
        if place not in self._means:
            grouped = self._table.group_by([*keys, self.unit], use_threads=False)
            self._means[place] = grouped.aggregate([(name, "mean") for name in scores]).to_pylist()
        return self._means[place]


def _by_place(results: pa.Table) -> pa.Table:
    """Name classes by their place in the tail, which every pool gives to another class."""
    rows = zip(results["place"].to_pylist(), results["name"].to_pylist(), strict=True)
    names = [name if place is None else place_names([place])[0] for place, name in rows]
    column = results.schema.get_field_index("name")
    return results.set_column(column, "name", pa.array(names, pa.string()))


def _groups(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> Iterator[tuple[tuple[object, ...], list[Mapping[str, Any]]]]:
    found: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        # NaN is not equal to itself, so a level that is absent would make a group per row.
        place = tuple(None if row[k] != row[k] else row[k] for k in keys)
        found.setdefault(place, []).append(row)
    yield from found.items()


def write_summary(store: Store, compared: Compared) -> dict[str, Any]:
    """Write `summary.parquet` and `comparison.json` beside the results; return the latter.

    Raises:
        StorageError: the store refuses or fails.
    """
    facts = finite(comparison_facts(compared))
    assert isinstance(facts, dict)  # of a dict it makes a dict
    folder = store.absolute(compared.uri)
    write_table(store, store.join(folder, SUMMARY), unit_scores(compared).summary())
    text = json.dumps(facts, indent=1, sort_keys=True)
    store.write_bytes(store.join(folder, FACTS), text.encode())
    return facts


def unit_scores(compared: Compared) -> UnitScores:
    """Return the scores by unit, classes told as `facts` tells them."""
    return UnitScores(compared.results, by_place=bool(compared.facts["by_place"]))


def comparison_facts(compared: Compared) -> dict[str, Any]:
    """Return what was compared, and every table of the page, JSON."""
    scores = unit_scores(compared)
    single = bool(compared.facts["single_label"])
    decision = "top1" if single else "thresholds"
    main = ("macro_recall",) if single else ("mean_average_precision", "macro_recall")
    arms = arm_facts(compared)
    tables: dict[str, list[dict[str, Any]]] = {"overall": [], "gaps": [], "matches": []}
    for score in main:
        values = scores.overall(score, decision)
        tables["overall"] += overall_rows(values, score, decision, arms)
        tables["gaps"] += gap_rows(values, score, arms)
        tables["matches"] += match_rows(values, score, arms)
    if compared.facts["config"]["groups"]:
        worst = scores.overall(WORST_GROUP, decision)
        tables["overall"] += overall_rows(worst, WORST_GROUP, decision, arms)
    num = len(scores.units)
    low = low_classes(compared)
    tables["claims"] = list(claim_rows(scores, compared.facts, arms, low)) if num > 1 else []
    return {
        **compared.facts,
        **tables,
        "low_classes": low,
        "main_score": main[0],
        "units": f"{num} {scores.unit}{'s' if num > 1 else ''}",
        "version": __version__,
    }


def low_classes(compared: Compared) -> list[str]:
    """Return the low-frequency classes of the first pool's training part, by the 25th percentile.

    The rule of a strategy is its own setting; this one is that of tables and figures.
    """
    names = list(compared.facts["classes"])
    counts = np.array([compared.facts["parts"]["train"][name] for name in names])
    return [name for name, low in zip(names, low_frequency(counts), strict=True) if low]


def describe_comparison(facts: Mapping[str, Any]) -> list[str]:
    """Return what a terminal shows: gaps closed and verdicts, at equal steps where there are."""
    updates = sorted({row["updates"] for row in facts["overall"]}, reverse=True)[0]
    lines = [f"{facts['dataset']}: {facts['num_images']:,} images, {facts['units']}"]
    lines += [
        row["sentence"]
        for row in facts["gaps"]
        if row["updates"] == updates and row["loss"] == "plain"
    ]
    lines += [
        f"{row['encoder']}, claim {row['claim']}: {row['statement']} {row['verdict'].capitalize()}."
        for row in facts["claims"]
        if row["updates"] == updates and row["score"] == "recall"
    ]
    return lines


def arm_facts(compared: Compared) -> list[ArmFacts]:
    """Return what tables must know of every arm, in the order of the configuration."""
    sizes: dict[str, list[int]] = {}
    chosen = compared.results.select(["arm", "scope", "num_distinct"])
    for row in chosen.to_pylist():
        if row["scope"] == ALL:
            sizes.setdefault(row["arm"], []).append(row["num_distinct"])
    return [
        ArmFacts(
            label=arm["label"],
            strategy=arm["name"],
            target=arm.get("target"),
            num_images=float(np.mean(sizes[arm["label"]])),
            published=arm.get("mode") == "as_published",
        )
        for arm in compared.facts["arms"]
    ]
