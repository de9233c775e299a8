"""Translate the measures in a round's commit to the report's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from balancer.report.content import ColumnRole, OutcomeColumn
from balancer.report.vocabulary import MEASURES

SYNONYMS = {
    "std": "class_size_std",
    "rare_coverage": "rare_class_coverage",
    "rare_share": "rare_class_share",
}
"""Names in `balancer.imbalance` that the report writes out."""

RADII = ("covering_radii", "covering_radius", "radii", "radius")
"""Mappings of these names hold covering radii by per cent."""

ARCHIVE_NAMES = ("archive", "before")
SELECTED_NAMES = ("selected", "selection", "balanced")
COMPARED_NAMES = ("compared", "compare", "strategies")


def named_measures(tree: Mapping[str, Any]) -> dict[str, float]:
    """Return the known measures anywhere in a tree, under the report's names.

    >>> named_measures({"gini": 0.5, "classes": {"std": 2.0}, "covering_radii": {"99": 0.3}})
    {'gini': 0.5, 'class_size_std': 2.0, 'covering_radius_99': 0.3}
    """
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            prefix = "covering_radius_" if key in RADII else ""
            found.update(named_measures({f"{prefix}{k}": v for k, v in value.items()}))
            continue
        name = SYNONYMS.get(key, key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name in MEASURES and number:
            found[name] = float(value)
    return found


def outcome_columns(measures: Mapping[str, Any], selected_name: str) -> tuple[OutcomeColumn, ...]:
    """Return the columns of the result table: archive, compared strategies, selection.

    Without a part for the selection, everything outside the other parts is the selection's. A
    compared strategy may be one mapping of measures, or a list of them, one per repeat; of a
    list the columns are mean and standard deviation (ddof 1).
    """
    columns = []
    archive = _child(measures, ARCHIVE_NAMES)
    if archive is not None:
        columns.append(_column("Archive", "archive", archive))
    compared = _child(measures, COMPARED_NAMES) or {}
    if "random" in measures:
        compared = {"random": measures["random"], **compared}
    # Random first: the selection is judged against it.
    order = sorted(compared, key=lambda name: (name != "random", name))
    columns += [_column(name.capitalize(), "compared", compared[name]) for name in order]
    selected = _child(measures, SELECTED_NAMES)
    if selected is None:
        others = {*ARCHIVE_NAMES, *COMPARED_NAMES, "random"}
        selected = {name: value for name, value in measures.items() if name not in others}
    columns.append(_column(selected_name, "selected", selected))
    return tuple(column for column in columns if column.values)


def _child(tree: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any] | None:
    return next((tree[name] for name in names if isinstance(tree.get(name), Mapping)), None)


def _column(name: str, role: ColumnRole, found: Mapping[str, Any] | Sequence[Any]) -> OutcomeColumn:
    if not isinstance(found, Mapping):
        return _repeated(name, role, [named_measures(repeat) for repeat in found])
    if isinstance(found.get("mean"), Mapping):
        spread = found.get("std")
        return OutcomeColumn(
            name,
            role,
            named_measures(found["mean"]),
            named_measures(spread) if isinstance(spread, Mapping) else {},
        )
    return OutcomeColumn(name, role, named_measures(found))


def _repeated(name: str, role: ColumnRole, repeats: Sequence[Mapping[str, float]]) -> OutcomeColumn:
    keys = [key for key in MEASURES if repeats and all(key in repeat for repeat in repeats)]
    values = {key: np.array([repeat[key] for repeat in repeats]) for key in keys}
    return OutcomeColumn(
        name,
        role,
        {key: float(value.mean()) for key, value in values.items()},
        {key: float(value.std(ddof=1)) for key, value in values.items() if len(value) > 1},
    )
