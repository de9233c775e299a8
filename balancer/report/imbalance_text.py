"""A diagnosis of imbalance as tables of text, for the terminal and for the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from balancer.imbalance.diagnosis import ClassRow, Diagnosis, GroupTable

MAX_PAIRS = 10
"""Pairs of labels listed; the JSON has all."""
MAX_GROUPS = 20
"""Groups of a column listed; the JSON has all."""
PAIRS_BY = {
    "centroid": "nearest class by the centroids of the features",
    "confusion": "class most often predicted wrongly on its tiles",
    "company": "class that occurs with the most similar other labels",
    "nothing": "no nearest classes: tiles have one label each, and there are no features or "
    "predictions",
}
RULES = {
    "percentile_25": "at or under the 25th percentile of the counts",
    "tenth_of_max": "under a tenth of the greatest count",
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text: a title, headings, rows, and how many columns on the left hold names."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int = 1


def diagnosis_tables(found: Diagnosis) -> list[TextTable]:
    """Return the tables of a diagnosis, most general first.

    >>> from balancer.imbalance.diagnosis import diagnose
    >>> from balancer.imbalance.labels import label_table
    >>> found = diagnose(label_table("abc", [["sea"], ["sea"], ["land"]]))
    >>> [table.title for table in diagnosis_tables(found)]
    ['Imbalance', 'Classes']
    """
    tables = [_summary(found), _classes(found)]
    pairs = _together(found)
    if pairs.rows:
        tables.append(pairs)
    if found.pairs_by != "nothing":
        tables.append(_nearest(found))
    return tables + [_group(found, group) for group in found.groups]


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """Return everything that is known, as JSON values."""
    return asdict(found)


def _summary(found: Diagnosis) -> TextTable:
    low = sum(row.is_low for row in found.classes)
    rows = [
        ("tiles", f"{found.num_tiles:,}"),
        ("without a label", f"{found.num_unlabeled:,}"),
        ("labels per tile", f"{found.cardinality:.4f}"),
        ("classes", f"{len(found.classes):,}"),
        ("distinct sets of labels", f"{found.num_sets:,}"),
        ("tiles per class", f"{found.mean_count:,.2f} (std {found.count_std:,.2f})"),
        ("25th percentile", f"{found.percentile_25:,.6g}"),
        ("low-frequency classes", f"{low} ({RULES[found.rule]})"),
        (
            "tiles with one of them",
            f"{found.num_with_low:,} ({found.num_with_low / found.num_tiles:.2%})",
        ),
        ("mean imbalance ratio (MeanIR)", f"{found.mean_ratio:.2f}"),
        ("greatest imbalance ratio", f"{found.max_ratio:.2f}"),
        ("variation of the ratios (CVIR)", f"{found.ratio_variation:.3f}"),
        ("Gini coefficient of the counts", f"{found.gini:.3f}"),
        ("effective classes", f"{found.effective_classes:.2f}"),
    ]
    return TextTable("Imbalance", ("measure", "value"), tuple(rows))


def _classes(found: Diagnosis) -> TextTable:
    headings = ["class", "tiles", "share", "ratio", "low-frequency"]
    with_features = any(row.spread is not None for row in found.classes)
    if with_features:
        headings += ["spread", "separation"]
    rows = []
    for row in found.classes:
        cells = [
            row.name,
            f"{row.count:,}",
            f"{row.share:.2%}",
            _number(row.imbalance_ratio, ".2f"),
            "low" if row.is_low else "",
        ]
        if with_features:
            cells += [_number(row.spread, ".4g"), _number(row.separation, ".3f")]
        rows.append(tuple(cells))
    return TextTable("Classes", tuple(headings), tuple(rows))


def _together(found: Diagnosis) -> TextTable:
    names = [row.name for row in found.classes]
    counts = [row.count for row in found.classes]
    pairs = []
    for one in range(len(names)):
        for other in range(one):
            both = found.together[one][other]
            if both:
                either = counts[one] + counts[other] - both
                pairs.append((both / either, both, names[one], names[other]))
    pairs.sort(key=lambda pair: (-pair[0], pair[2], pair[3]))
    title = f"Labels that occur together, {min(MAX_PAIRS, len(pairs))} of {len(pairs)} pairs"
    rows = tuple(
        (rarer, other, f"{both:,}", f"{jaccard:.3f}")
        for jaccard, both, rarer, other in pairs[:MAX_PAIRS]
    )
    return TextTable(title, ("class", "with", "tiles", "of all with either"), rows, num_names=2)


def _nearest(found: Diagnosis) -> TextTable:
    headings = ["class", "nearest", "tiles with both"]
    with_features = found.pairs_by == "centroid"
    with_predictions = any(row.confused is not None for row in found.classes)
    if with_features:
        headings += ["distance", "pair accuracy"]
    if with_predictions:
        headings.append("taken for it")
    rows = [
        _nearest_row(row, with_features=with_features, with_predictions=with_predictions)
        for row in found.classes
        if row.nearest is not None
    ]
    title = f"Fine-grained pairs: {PAIRS_BY[found.pairs_by]}"
    return TextTable(title, tuple(headings), tuple(rows), num_names=2)


def _nearest_row(row: ClassRow, *, with_features: bool, with_predictions: bool) -> tuple[str, ...]:
    cells = [row.name, row.nearest or "", f"{row.shared or 0:,}"]
    if with_features:
        cells += [_number(row.distance, ".4g"), _number(row.pair_accuracy, ".1%")]
    if with_predictions:
        cells.append(_number(row.confused, ".1%"))
    return tuple(cells)


def _group(found: Diagnosis, table: GroupTable) -> TextTable:
    shown = min(MAX_GROUPS, len(table.groups))
    title = f"By {table.column}, {shown} of {len(table.groups)} groups"
    rows = tuple(
        (group, f"{size:,}", *(f"{count:,}" for count in counts))
        for group, size, counts in list(zip(table.groups, table.sizes, table.counts, strict=True))[
            :shown
        ]
    )
    headings = (table.column, "tiles", *(row.name for row in found.classes))
    return TextTable(title, headings, rows)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
