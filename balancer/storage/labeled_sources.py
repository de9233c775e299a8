"""Labels of published data sets by image name; other tables are read by `label_tables`.

Planet's `train_v2.csv` (image_name,tags) and ADE20K's `sceneCategories.txt` (name and scene). 73
rows of Planet's file repeat a tag, so labels are always a set.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from balancer.errors import DataError
from balancer.imbalance.labels import LabelTable
from balancer.storage.filesystem import Store

PLANET_COLUMNS = ("image_name", "tags")
DROPPED_SCENE = "misc"
MIN_SCENE_IMAGES = 98
"""ADE20K keeps the scenes with more than 97 images: the 20 most frequent."""
PART_COLUMN = "part"
"""Column with ADE20K's own parts, `train` and `val`, which the image names tell."""


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Labels by image, in the order of the file.

    Attributes:
        names: (N,) image names without folder and suffix.
        labels: (N,) each a sorted tuple of different labels.
        columns: further text columns by name, (N,) each; empty text where there is no value.
        repeated: rows that named a label more than once.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repeated: int = 0

    def counts(self) -> dict[str, int]:
        """Return images per label, most frequent first, then by name."""
        found = Counter(label for row in self.labels for label in row)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def take(self, rows: Sequence[int]) -> LabelRows:
        """Return some of the rows, in the order given."""
        return LabelRows(
            tuple(self.names[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            {key: tuple(values[row] for row in rows) for key, values in self.columns.items()},
        )


def image_stem(name: str) -> str:
    """Return an image's name without folder and suffix, by which labels find their image.

    >>> image_stem("train-jpg/train_0.jpg"), image_stem("train_0")
    ('train_0', 'train_0')
    """
    return PurePosixPath(name).name.partition(".")[0]


def parse_planet(text: str, where: str) -> LabelRows:
    r"""Read the text of Planet's label file.

    Args:
        text: lines `image_name,tags` with tags separated by spaces.
        where: how to name the file in messages.

    Raises:
        DataError: other columns, no rows, a name twice, or a row without a tag.

    >>> rows = parse_planet("image_name,tags\nt_0,clear primary clear\n", "labels.csv")
    >>> rows.labels, rows.repeated
    ((('clear', 'primary'),), 1)
    """
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != PLANET_COLUMNS:
        raise DataError(
            f"{where} must have the columns {', '.join(PLANET_COLUMNS)}; got "
            f"{', '.join(reader.fieldnames or ()) or 'nothing'}. Give Planet's train_v2.csv."
        )
    found = [(row["image_name"], (row["tags"] or "").split()) for row in reader]
    return _rows(found, where)


def parse_scenes(text: str, where: str) -> LabelRows:
    r"""Read the text of ADE20K's scene list: a name and a scene per line.

    The scene `misc` is left out; the column `part` says `train` or `val`, after the names.

    Raises:
        DataError: a line that is not two words, no rows, or a name twice.

    >>> rows = parse_scenes("ADE_train_1 street\nADE_val_2 misc\n", "scenes.txt")
    >>> rows.names, rows.labels, rows.columns["part"]
    (('ADE_train_1',), (('street',),), ('train',))
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) != 2:
            raise DataError(
                f"{where}:{number} must be an image name and a scene; got {line[:60]!r}. Give "
                f"ADEChallengeData2016/sceneCategories.txt."
            )
        if words[1] != DROPPED_SCENE:
            found.append((words[0], [words[1]]))
    rows = _rows(found, where)
    parts = tuple("val" if "_val_" in name else "train" for name in rows.names)
    return LabelRows(rows.names, rows.labels, {PART_COLUMN: parts})


def rows_of_table(table: LabelTable, where: str) -> LabelRows:
    """Return a table's rows by image name: ids lose folder and suffix, columns become text.

    Args:
        table: from `label_tables.read_labels`.
        where: how to name the file in messages.

    Raises:
        DataError: two ids of one image name, or a row without a label.

    >>> from balancer.imbalance.labels import label_table
    >>> rows_of_table(label_table(["x/b.png"], [["sea", "land"]]), "t.csv").labels
    (('land', 'sea'),)
    """
    names = np.array(table.classes, dtype=object)
    found = [
        (image_stem(tile), names[has].tolist())
        for tile, has in zip(table.ids.tolist(), table.matrix, strict=True)
    ]
    rows = _rows(found, where)
    columns = {
        name: tuple("" if value is None else str(value) for value in values.tolist())
        for name, values in table.columns.items()
    }
    return LabelRows(rows.names, rows.labels, columns)


def read_text(store: Store, uri: str, what: str) -> str:
    """Return a file's UTF-8 text.

    Args:
        store: where to read.
        uri: the file.
        what: what it is and where to get it, for the message.

    Raises:
        DataError: no such file, or not text.
        StorageError: the store refuses or fails.
    """
    try:
        return store.read_bytes(uri).decode("utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        got = "none" if isinstance(error, FileNotFoundError) else "a file that is not UTF-8 text"
        raise DataError(f"{uri} must be {what}; got {got}. Put it there.") from error


def frequent_labels(rows: LabelRows, min_images: int) -> LabelRows:
    """Keep the rows of a single-label set whose label has at least `min_images` images.

    >>> rows = LabelRows(("a", "b", "c"), (("x",), ("y",), ("x",)))
    >>> frequent_labels(rows, 2).names
    ('a', 'c')
    """
    counts = rows.counts()
    keep = [row for row, (label, *_) in enumerate(rows.labels) if counts[label] >= min_images]
    return rows.take(keep)


def _rows(found: Sequence[tuple[str, Sequence[str]]], where: str) -> LabelRows:
    if not found:
        raise DataError(f"{where} must have rows; got none. Copy the file again.")
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        name, times = Counter(names).most_common(1)[0]
        raise DataError(
            f"{where} must name each image once; {name!r} is named {times} times. Remove the "
            f"repetitions, or join their labels."
        )
    empty = next((name for name, labels in found if not labels), None)
    if empty is not None:
        raise DataError(
            f"{where} must have a label for every image; {empty!r} has none. Remove such rows."
        )
    return LabelRows(
        tuple(names),
        tuple(tuple(sorted(set(labels))) for _, labels in found),
        repeated=sum(len(set(labels)) < len(labels) for _, labels in found),
    )
