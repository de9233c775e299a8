"""What Planet's and ADE20K's label files held when they were published: differences by name.

Numbers measured on `train_v2.csv` (1,432,177 bytes) and printed by the source paper's authors for
ADE20K (Panigrahi & Zhu, "Comparing Importance Sampling Based Methods for Mitigating the Effect of
Class Imbalance", section 4 and their notebooks).
"""

from __future__ import annotations

from collections.abc import Mapping

from balancer.errors import DataError
from balancer.storage.labeled_sources import PART_COLUMN, LabelRows

PLANET_COUNTS: Mapping[str, int] = {
    "primary": 37513, "clear": 28431, "agriculture": 12315, "road": 8071, "water": 7411,
    "partly_cloudy": 7261, "cultivation": 4477, "habitation": 3660, "haze": 2697, "cloudy": 2089,
    "bare_ground": 862, "selective_logging": 340, "artisinal_mine": 339, "blooming": 332,
    "slash_burn": 209, "conventional_mine": 100, "blow_down": 98,
}  # fmt: skip
PLANET_IMAGES = 40479
PLANET_REPEATED = 73
PLANET_WEATHER = frozenset({"clear", "cloudy", "haze", "partly_cloudy"})
PLANET_WITH_WEATHER = 40478
PLANET_LOW = ("artisinal_mine", "blooming", "slash_burn", "conventional_mine", "blow_down")
PLANET_WITH_LOW = 1069
ADE20K_CLASSES, ADE20K_IMAGES, ADE20K_VALIDATION = 20, 8809, 802
ADE20K_MOST, ADE20K_LEAST = ("street", 2241), ("art_studio", 98)


def planet_differences(rows: LabelRows) -> list[str]:
    """Return a line `what: published -> found` for each number that differs; empty if none does.

    >>> rows = LabelRows(("t",), (("cloudy", "water"),))
    >>> planet_differences(rows)[-1]
    'images that are cloudy and something else: 0 -> 1'
    """
    weather = [len(PLANET_WEATHER.intersection(row)) for row in rows.labels]
    pairs: dict[str, tuple[int, int]] = {
        "images": (PLANET_IMAGES, len(rows.names)),
        "rows that repeat a tag": (PLANET_REPEATED, rows.repeated),
        **_counts(PLANET_COUNTS, rows),
        "images with exactly one kind of weather": (
            PLANET_WITH_WEATHER,
            sum(number == 1 for number in weather),
        ),
        "images with two kinds of weather": (0, sum(number > 1 for number in weather)),
        "images with a low-frequency label": (
            PLANET_WITH_LOW,
            sum(not set(PLANET_LOW).isdisjoint(row) for row in rows.labels),
        ),
        "images that are cloudy and something else": (
            0,
            sum("cloudy" in row and len(row) > 1 for row in rows.labels),
        ),
    }
    return _lines(pairs)


def ade20k_differences(rows: LabelRows) -> list[str]:
    """Return a line `what: published -> found` for each number that differs.

    Args:
        rows: the 20 most frequent scenes, from `parse_scenes` and `frequent_labels`.
    """
    counts = rows.counts()
    most = next(iter(counts.items()), ("", 0))
    least = min(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    pairs: dict[str, tuple[object, object]] = {
        "scenes": (ADE20K_CLASSES, len(counts)),
        "images": (ADE20K_IMAGES, len(rows.names)),
        "largest scene": (ADE20K_MOST, most),
        "smallest scene": (ADE20K_LEAST, least),
        "validation images": (ADE20K_VALIDATION, rows.columns[PART_COLUMN].count("val")),
    }
    return _lines(pairs)


def require_published(differences: list[str], where: str) -> None:
    """Refuse labels that differ from the published ones.

    Raises:
        DataError: with every difference.
    """
    if differences:
        raise DataError(
            f"{where} must be the published labels (strict: true); published -> found:\n  "
            + "\n  ".join(differences)
            + "\nGive the published file, or set strict: false to use these."
        )


def _counts(published: Mapping[str, int], rows: LabelRows) -> dict[str, tuple[int, int]]:
    found = rows.counts()
    names = [*published, *(name for name in found if name not in published)]
    return {
        f"images labeled {name}": (published.get(name, 0), found.get(name, 0)) for name in names
    }


def _lines(pairs: Mapping[str, tuple[object, object]]) -> list[str]:
    return [f"{what}: {was} -> {found}" for what, (was, found) in pairs.items() if was != found]
