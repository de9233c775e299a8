"""Labels of a set of tiles as one matrix, for tiles with one label or with many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.types import BoolArray, IdArray, IntArray


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Which tile has which labels.

    Attributes:
        ids: (N,) unique tile ids.
        classes: (C,) names of the classes, distinct.
        matrix: (N, C) bool: tile n has label c.
        columns: (N,) values of each metadata column, by name.

    Raises:
        ValueError: shapes that do not fit, an id or a class that repeats.
    """

    ids: IdArray
    classes: tuple[str, ...]
    matrix: BoolArray
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.classes))
        if self.matrix.shape != shape or self.matrix.dtype != np.bool_:
            raise ValueError(
                f"matrix must be boolean of shape {shape} (ids by classes); got "
                f"{self.matrix.dtype} of shape {self.matrix.shape}."
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"Classes must be distinct; got {self.classes}.")
        ordered = np.sort(self.ids)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            raise ValueError(
                f"Ids must be unique; {len(repeated)} repeat, the first is {str(repeated[0])!r}. "
                f"Drop or rename the duplicates."
            )
        for name, values in self.columns.items():
            if values.shape != (len(self.ids),):
                raise ValueError(
                    f"Column {name!r} must have one value per tile ({len(self.ids)}); got shape "
                    f"{values.shape}."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> IntArray:
        """Return the (C,) int64 numbers of tiles with each label."""
        counts: IntArray = self.matrix.sum(axis=0, dtype=np.int64)
        return counts

    @property
    def is_single_label(self) -> bool:
        """Whether every tile has exactly one label."""
        return bool((self.matrix.sum(axis=1) == 1).all())

    def take(self, rows: IntArray | BoolArray) -> LabelTable:
        """Return the table of the given distinct rows, in their order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return LabelTable(self.ids[rows], self.classes, self.matrix[rows], columns)

    def top_class(self) -> IntArray:
        """Return the (N,) int64 number of every tile's only class.

        Raises:
            ValueError: a tile has no label, or several.
        """
        sizes = self.matrix.sum(axis=1)
        wrong = np.flatnonzero(sizes != 1)
        if len(wrong):
            raise ValueError(
                f"Every tile must have one label for this; {len(wrong)} of {len(self.ids)} have "
                f"none or several, {str(self.ids[wrong[0]])!r} has {sizes[wrong[0]]}. Use a rule "
                f"for many labels."
            )
        numbers: IntArray = self.matrix.argmax(axis=1).astype(np.int64)
        return numbers


def label_table(
    ids: Sequence[str] | IdArray,
    labels: Sequence[Iterable[str]],
    *,
    classes: Sequence[str] | None = None,
    columns: Mapping[str, NDArray[Any]] | None = None,
) -> LabelTable:
    """Make a table from one collection of labels per tile; a repeated label counts once.

    Args:
        ids: (N,) unique tile ids.
        labels: (N,) the labels of each.
        classes: the classes in the order wanted; all that occur, sorted, when absent.
        columns: (N,) metadata values by name.

    Raises:
        ValueError: lengths that differ, a label that is not among the classes, ids that repeat.

    >>> label_table(["a", "b"], [["sea", "sea"], ["land", "sea"]]).counts()
    array([1, 2])
    """
    if len(ids) != len(labels):
        raise ValueError(f"There must be labels for each of {len(ids)} ids; got {len(labels)}.")
    sets = [set(row) for row in labels]
    names = tuple(sorted(set().union(*sets))) if classes is None else tuple(classes)
    place = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(names)), np.bool_)
    for row, found in enumerate(sets):
        for name in found:
            if name not in place:
                raise ValueError(
                    f"Labels must be among the {len(names)} classes; {ids[row]!s} has {name!r}. "
                    f"Correct it, or name the class."
                )
            matrix[row, place[name]] = True
    tiles = np.array(list(ids), dtype=np.str_)
    return LabelTable(tiles, names, matrix, columns or {})
