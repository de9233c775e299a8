"""The diagnosis of labels: its numbers, its command, and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.cli import main
from balancer.imbalance.diagnosis import NO_VALUE, diagnose, group_table
from balancer.imbalance.labels import LabelTable, label_table
from balancer.report.imbalance_page import render_imbalance_page
from balancer.report.imbalance_text import diagnosis_tables
from tests.data.planet import PLANET_CSV, needs_planet

ROWS = [
    ("t0", "sea", "north", "sea"),
    ("t1", "sea", "north", "land"),
    ("t2", "sea", "south", "sea"),
    ("t3", "sea", "", "sea"),
    ("t4", "land", "south", "land"),
    ("t5", "<b>ice</b>", "south", "sea"),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["tile_id,label,site,guess", *(",".join(row) for row in ROWS)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "labels.csv"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def labels() -> LabelTable:
    sites = np.array([row[2] or None for row in ROWS], dtype=object)
    return label_table(
        [row[0] for row in ROWS], [[row[1]] for row in ROWS], columns={"site": sites}
    )


def test_numbers_by_hand() -> None:
    found = diagnose(labels(), groups=["site"])
    assert [(row.name, row.count) for row in found.classes] == [
        ("sea", 4), ("<b>ice</b>", 1), ("land", 1),
    ]  # fmt: skip
    assert (found.mean_ratio, found.max_ratio, found.percentile_25) == (3, 4, 1)
    assert (found.num_tiles, found.num_with_low, found.num_sets) == (6, 2, 3)
    assert found.pairs_by == "nothing"
    site = found.groups[0]
    assert site.groups == ("south", "north", NO_VALUE)
    assert site.sizes == (3, 2, 1)
    assert site.counts == ((1, 1, 1), (2, 0, 0), (1, 0, 0))
    assert np.array(site.counts).sum() == 6
    with pytest.raises(ValueError, match="got 'place', and there are: site"):
        group_table(labels(), "place")
    with pytest.raises(ValueError, match="Some tile must have a label"):
        diagnose(label_table(["a"], [[]], classes=["sea"]))


def test_tables_of_the_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("imbalance", table, "--group", "site") == 0
    out = capsys.readouterr().out
    assert re.search(r"mean imbalance ratio \(MeanIR\)\W+3\.00", out)
    assert re.search(r"sea\W+4\W+66\.67%", out)
    assert "By site, 3 of 3 groups" in out
    assert "<b>ice</b>" in out


def test_json_and_pairs_by_confusion(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.with_name("report.json")
    assert call("imbalance", table, "--predictions-column", "guess", "--json", "--out", out) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text(encoding="utf-8"))
    assert printed["pairs_by"] == "confusion"
    sea, ice, land = printed["classes"]
    assert (sea["nearest"], sea["confused"]) == ("land", 0.25)
    assert (ice["nearest"], ice["confused"]) == ("sea", 1.0)
    assert (land["nearest"], land["confused"]) == (None, None)


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_features(table: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    vectors = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [3, 3], [9, 9]], dtype=np.float32)
    path = table.with_name(f"vectors.{form}")
    if form == "npy":
        np.save(path, vectors)
    else:
        order = [5, 3, 1, 0, 2, 4]
        ids = [f"t{number}" for number in order]
        columns = {"tile_id": ids, "embedding": vectors[order].tolist()}
        pq.write_table(pa.table(columns), path)
    assert call("imbalance", table, "--features", path, "--json") == 0
    sea, ice, land = json.loads(capsys.readouterr().out)["classes"]
    assert sea["spread"] == pytest.approx(0.5**0.5)
    assert (sea["nearest"], land["nearest"], ice["nearest"]) == ("land", "sea", "land")
    assert sea["distance"] == pytest.approx(12.5**0.5)


def test_the_page_is_closed_and_escaped(table: Path) -> None:
    out = table.with_name("report.html")
    assert call("imbalance", table, "--group", "site", "--out", out) == 0
    page = out.read_text(encoding="utf-8")
    assert "&lt;b&gt;ice&lt;/b&gt;" in page
    assert "<b>ice" not in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    found = diagnose(labels(), groups=["site"])
    assert render_imbalance_page(found, "x") == render_imbalance_page(found, "x")
    for text in diagnosis_tables(found):
        assert text.title in page


def test_many_classes_and_labels_fit_on_the_page() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"class-{number:03d}" for number in range(90))
    matrix = rng.random((200, 90)) < 0.05
    matrix[0] = True
    table = LabelTable(np.arange(200).astype(np.str_), names, matrix)
    page = render_imbalance_page(diagnose(table), "many")
    assert "Bar chart of the tiles of 40 of 90 classes" in page
    assert "Shaded table of 40 by 40 classes" in page


@needs_planet
def test_planet(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("imbalance", PLANET_CSV, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_tiles"], found["percentile_25"], found["num_with_low"]) == (40479, 339, 1069)
    assert found["cardinality"] == pytest.approx(2.8707, abs=5e-5)
    assert found["pairs_by"] == "company"
    haze = next(row for row in found["classes"] if row["name"] == "haze")
    assert (haze["nearest"], haze["shared"]) == ("partly_cloudy", 0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rule", "rare"], 2, "--rule must be one of percentile_25, tenth_of_max; got rare"),
        (["--group", "place"], 2, "--group must name a metadata column.*there are: site, guess"),
        (["--out", "report.pdf"], 2, r"--out must end in .html or .json; got report.pdf"),
        (["--predictions-column", "site"], 3, "predictions of the classes there are; t0 has 'nor"),
        (["--labels-column", "what"], 3, "must have the column 'what'"),
    ],
)
def test_refusals(
    table: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert call("imbalance", table, *arguments) == code
    assert re.search(message, capsys.readouterr().err)


def test_features_that_do_not_belong_to_the_table(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, other = table.with_name("short.npy"), table.with_name("other.parquet")
    np.save(short, np.zeros((2, 3), np.float32))
    pq.write_table(pa.table({"tile_id": ["t0"], "embedding": [[1.0, 2.0]]}), other)
    assert call("imbalance", table, "--features", short) == 3
    assert "one row for each of the 6 tiles" in capsys.readouterr().err
    assert call("imbalance", table, "--features", other) == 3
    assert "5 of 6 are not there, the first is 't1'" in capsys.readouterr().err
    np.save(short, np.full((6, 3), np.nan, np.float32))
    assert call("imbalance", table, "--features", short) == 3
    assert "short.npy" in capsys.readouterr().err
