"""What the page of a labeled comparison shows, as it lies in the comparison's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_artefact, read_table

SUMMARY, FACTS = "summary.parquet", "comparison.json"
EQUAL_EPOCHS, PLAIN = "equal-epochs", "plain"
CLASS, ALL = "class", "all"


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval over pools or seeds; the ends are NaN for a single one."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One score of one arm, of a class, a group or the whole; see `summary.parquet`."""

    encoder: str
    arm: str
    strategy: str
    level: float
    updates: str
    loss: str
    decision: str
    scope: str
    name: str
    score: str
    value: Interval


@dataclass(frozen=True, slots=True)
class ComparisonContent:
    """A finished comparison.

    Attributes:
        facts: `comparison.json`: what was compared, verdicts, gaps, tests.
        rows: means and intervals of every score.
    """

    facts: Mapping[str, Any]
    rows: Sequence[SummaryRow]

    @property
    def dataset(self) -> str:
        """Name of the data set; rendered images are called synthetic in it."""
        return str(self.facts["dataset"])

    @property
    def class_word(self) -> str:
        """What classes are told by: their names, or with pools their place in the tail."""
        return "class, by place in the tail" if self.facts["by_place"] else "class"

    @property
    def decision(self) -> str:
        """How classes are decided in the main tables: top1 for single labels, else thresholds."""
        return "top1" if self.facts["single_label"] else "thresholds"

    def classes(self, *, low: bool | None = None, ascending: bool = False) -> list[str]:
        """Return class names by frequency, descending unless asked; all, low or remaining."""
        counts: Mapping[str, int] = self.facts["class_counts"]
        rare = set(self.facts["low_classes"])
        names = sorted(counts, key=lambda name: (-counts[name], name))
        if low is not None:
            names = [name for name in names if (name in rare) == low]
        return names[::-1] if ascending else names

    def select(self, **wanted: object) -> Iterator[SummaryRow]:
        """Yield the rows whose fields have the wanted values."""
        for row in self.rows:
            if all(getattr(row, key) == value for key, value in wanted.items()):
                yield row


def read_comparison(store: Store, folder: str) -> ComparisonContent:
    """Read what a comparison wrote into its folder.

    Raises:
        DataError: the folder holds no finished comparison.
    """
    root = store.absolute(folder)
    try:
        facts = json.loads(read_artefact(store, store.join(root, FACTS)))
    except ValueError as error:
        raise DataError(
            f"{store.join(root, FACTS)} must be JSON; got {error}. Run the comparison again."
        ) from error
    table = read_table(store, store.join(root, SUMMARY)).to_pylist()
    rows = [
        SummaryRow(
            **{key: row[key] for key in SummaryRow.__slots__ if key != "value"},
            value=Interval(row["mean"], row["low"], row["high"]),
        )
        for row in table
    ]
    return ComparisonContent(facts, rows)
