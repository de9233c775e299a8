"""Results of a comparison in brief: means with intervals, tests, gaps closed, verdicts.

Units of all statistics are the pools, seeds of a pool averaged first; without pools the seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.comparison.cells import ALL, CLASS, OVERALL, PER_CLASS
from balancer.comparison.labeled_comparison import Compared
from balancer.comparison.paired_statistics import t_interval
from balancer.storage.filesystem import Store
from balancer.storage.tables import write_table
from balancer.types import DoubleArray
from balancer.version import __version__

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


@dataclass(frozen=True, slots=True)
class Key:
    """Which head: encoder, arm, steps, loss and decision."""

    encoder: str
    arm: str
    updates: str
    loss: str
    decision: str


class UnitScores:
    """Scores of every head by unit, for paired comparisons.

    Args:
        results: rows of `cells.RESULT_SCHEMA`.
    """

    def __init__(self, results: pa.Table) -> None:
        pools = set(results["pool"].to_pylist())
        self.unit = "pool" if len(pools) > 1 else "seed"
        self.units = sorted(set(results[self.unit].to_pylist()))
        self._table = results

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
                mean, low, high = t_interval(known)
                rows.append(
                    facts
                    | {"score": score, "mean": mean, "low": low, "high": high,
                       "num_units": len(known)}
                )  # fmt: skip
        return pa.Table.from_pylist(rows, schema=SUMMARY_SCHEMA)

    def overall(self, score: str) -> dict[Key, DoubleArray]:
        """Return (U,) values of a score over all classes, in the order of `units`."""
        keys = ["encoder", "arm", "updates", "loss", "decision", "scope"]
        found: dict[Key, DoubleArray] = {}
        for place, group in _groups(self._by_unit(keys, [score]), keys):
            if place[-1] == ALL:
                values = {row[self.unit]: row[f"{score}_mean"] for row in group}
                array = np.array([values[unit] for unit in self.units], dtype=np.float64)
                if np.isfinite(array).all():
                    found[Key(*map(str, place[:5]))] = array
        return found

    def classes(self, score: str, names: Sequence[str]) -> dict[Key, DoubleArray]:
        """Return (U,) means over some classes of a score."""
        keys = ["encoder", "arm", "updates", "loss", "decision", "scope", "name"]
        found: dict[Key, list[DoubleArray]] = {}
        for place, group in _groups(self._by_unit(keys, [score]), keys):
            if place[-2] == CLASS and place[-1] in names:
                values = {row[self.unit]: row[f"{score}_mean"] for row in group}
                array = np.array([values[unit] for unit in self.units], dtype=np.float64)
                found.setdefault(Key(*map(str, place[:5])), []).append(array)
        # A precision of a class that is never predicted is not defined; the others count.
        return {key: np.nanmean(arrays, axis=0) for key, arrays in found.items()}

    def _by_unit(self, keys: Sequence[str], scores: Sequence[str]) -> list[dict[str, Any]]:
        grouped = self._table.group_by([*keys, self.unit], use_threads=False)
        rows: list[dict[str, Any]] = grouped.aggregate(
            [(score, "mean") for score in scores]
        ).to_pylist()
        return rows


def _groups(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> Iterator[tuple[tuple[object, ...], list[Mapping[str, Any]]]]:
    found: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        # NaN is not equal to itself, so a level that is absent would make a group per row.
        place = tuple(None if row[k] != row[k] else row[k] for k in keys)  # noqa: PLR0124
        found.setdefault(place, []).append(row)
    yield from found.items()
