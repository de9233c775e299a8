"""Translate the measures in a round's commit to the report's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from balancer.report.content import ColumnRole, OutcomeColumn
from balancer.report.vocabulary import MEASURES

SYNONYMS = {
    "std": "class_size_std",
    "rare_coverage": "rare_class_coverage",
    "rare_share": "rare_class_share",
}
"""Names in `balancer.imbalance` that the report writes out."""

RADII = "covering_radius"
"""A mapping of this name holds the covering radii by per cent."""

ARCHIVE, SELECTED, RANDOM = "archive", "selected", "random"


def named_measures(tree: Mapping[str, Any]) -> dict[str, float]:
    """Return the known measures anywhere in a tree, under the report's names.

    >>> named_measures({"gini": 0.5, "classes": {"std": 2.0}, "covering_radius": {"99": 0.3}})
    {'gini': 0.5, 'class_size_std': 2.0, 'covering_radius_99': 0.3}
    """
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            prefix = "covering_radius_" if key == RADII else ""
            found.update(named_measures({f"{prefix}{k}": v for k, v in value.items()}))
            continue
        name = SYNONYMS.get(key, key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in MEASURES and number:
            found[name] = float(value)
    return found


def outcome_columns(measures: Mapping[str, Any]) -> tuple[OutcomeColumn, ...]:
    """Return the columns of the result table: archive, compared strategies, selection.

    Args:
        measures: `sets` by name as `balancer.stages.measure` gives them, and under `spreads`, where
            there is such a key, standard deviations over repeats in the same form.
    """
    sets = measures.get("sets", {})
    spreads = measures.get("spreads", {})
    compared = sorted(sets.keys() - {ARCHIVE, SELECTED}, key=lambda name: (name != RANDOM, name))
    plan: list[tuple[str, str, ColumnRole]] = [
        (ARCHIVE, "Archive", "archive"),
        # Random first: the selection is judged against the first compared column.
        *((name, name.capitalize(), "compared") for name in compared),
        (SELECTED, "Balanced", "selected"),
    ]
    columns = []
    for name, title, role in plan:
        if name not in sets:
            continue
        values = named_measures(sets[name])
        if role == "archive" and "class_size_std" in values:
            # Spreads in tiles compare at one size only: the archive's, shrunk to the selection's.
            values["class_size_std"] *= sets[SELECTED]["num_tiles"] / sets[name]["num_tiles"]
        columns.append(OutcomeColumn(title, role, values, named_measures(spreads.get(name, {}))))
    return tuple(columns)


def round_values(commit: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured of a round: its selection, churn, and the encoder's health."""
    measures = commit.get("measures", {})
    selected = named_measures(measures.get("sets", {}).get(SELECTED, {}))
    return selected | named_measures({"churn": measures.get("churn")} | commit.get("health", {}))


def random_class_counts(measures: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the tiles of each class in a random selection, averaged over its repeats."""
    classes = measures.get("sets", {}).get(RANDOM, {}).get("classes")
    if not classes:
        return None
    return dict(zip(measures["class_names"], map(float, classes["counts"]), strict=True))
