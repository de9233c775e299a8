"""The table at the end of a run, from hand-made measures."""

from __future__ import annotations

from typing import Any

from balancer.rounds.summary import summary_rows


def one_set(tiles: int, *, labels: bool, radius: float | None = None) -> dict[str, Any]:
    classes = {
        "std": 0.4 * tiles,
        "effective_classes": 3.0,
        "rare_share": 0.125,
        "rare_coverage": 0.5,
    }
    found: dict[str, Any] = {
        "num_tiles": tiles,
        "effective_clusters": tiles / 10,
        "gini": 0.25,
        "kl_to_uniform": 0.5,
        "classes": classes if labels else None,
    }
    if radius is not None:
        found["covering_radius"] = {"100": radius, "99": radius / 2, "95": radius / 4}
    return found


def table(*, labels: bool = True, random: bool = True) -> dict[str, tuple[str, str, str]]:
    sets = {
        "archive": one_set(1000, labels=labels),
        "selected": one_set(100, labels=labels, radius=0.8),
    }
    if random:
        sets["random"] = one_set(100, labels=labels, radius=1.2)
    return {row[0]: row[1:] for row in summary_rows({"sets": sets})}


def test_before_random_balanced() -> None:
    rows = table()
    assert rows["tiles"] == ("1000", "100", "100")
    assert rows["effective clusters"] == ("100.0", "10.0", "10.0")
    assert rows["covering radius, 100 %"] == ("-", "1.200", "0.800")
    assert rows["covering radius, 95 %"] == ("-", "0.300", "0.200")
    assert rows["rare classes, tiles covered"] == ("50.0%", "50.0%", "50.0%")


def test_class_sizes_of_the_archive_are_scaled_to_the_budget() -> None:
    assert table()["class-size std (at this budget)"] == ("40.0", "40.0", "40.0")


def test_without_labels_there_are_no_class_rows() -> None:
    assert not any("class" in name for name in table(labels=False))


def test_without_random_there_are_dashes() -> None:
    assert table(random=False)["Gini of cluster sizes"] == ("0.250", "-", "0.250")
