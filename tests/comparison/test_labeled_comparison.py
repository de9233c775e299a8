"""A whole comparison on a tiny archive: results, resume, summary, figures and page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from balancer.cli_labels import compare_labeled
from balancer.comparison.cells import RESULT_SCHEMA
from balancer.comparison.labeled_comparison import run_comparison
from balancer.config_comparison import ComparisonConfig
from balancer.config_file import build_model, load_model
from balancer.errors import ConfigError, DataError
from balancer.report.comparison_content import ComparisonContent, read_comparison
from balancer.report.comparison_groups import group_tables
from balancer.storage.filesystem import Store
from tests.data.tiny_runs import NETWORKS

CONFIGS = Path(__file__).parents[2] / "configs"


def tree(archive: Path, out: Path, **changes: object) -> dict[str, Any]:
    return {
        "dataset": {
            "name": "demo <b>tiles</b>",
            "kind": "folder",
            "images": str(archive),
            "label_column": "class",
        },
        "encoders": [
            {
                "name": "projection",
                "encoder": {
                    "kind": "frozen", "backbone": "factory", "image_size": 16,
                    "factory": f"{NETWORKS}:projection",
                },
            }
        ],
        "strategies": [
            {"name": "baseline"},
            {"name": "reweight", "vary": {"k": [10]}},
            {"name": "undersample", "target": 4},
            {"name": "oversample", "target": 30},
            {"name": "random", "target": 4},
            {"name": "random", "vary": {"size": [24]}},
            {"name": "diverse", "target": 4},
        ],
        "out": str(out),
        "seeds": 2,
        "losses": ["plain", "class-weighted"],
        "head": {"epochs": 2, "hidden": 8},
        **changes,
    }  # fmt: skip


def check_groups_that_are_classes(
    rows: list[dict[str, Any]], content: ComparisonContent, page: str
) -> None:
    """A group's recall is then that of its class, and the worst group the worst class."""
    heads = ("arm", "seed", "updates", "loss", "decision", "name")
    recall = {tuple(r[k] for k in heads): r["recall"] for r in rows if r["scope"] == "class"}
    groups = [row for row in rows if row["scope"] == "group:class"]
    assert len(groups) == len(recall)
    assert all(row["macro_recall"] == recall[tuple(row[k] for k in heads)] for row in groups)
    whole = [row for row in rows if row["scope"] == "all"]
    assert all(row["worst_group_recall"] == row["worst_class_recall"] for row in whole)
    tested = [r for r in content.facts["overall"] if r["score"] == "worst_group_recall"]
    assert len(tested) == 7 * 2 * 2  # arms, losses, updates
    tables = group_tables(content)
    assert len(tables) == 2 * 2
    assert tables[0].caption == "class: projection, equal updates, plain loss"
    assert len(tables[0].rows) == 7
    worst_first = [float(cell) for cell in tables[0].rows[0][1:]]
    assert worst_first == sorted(worst_first)
    assert f"<caption>{tables[0].caption}</caption>" in page
    assert "worst group recall, equal updates, plain loss" in page


@pytest.mark.ray
def test_a_whole_comparison(
    ray_cluster: str, demo_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    assert ray_cluster
    out = tmp_path / "compare"
    config = tmp_path / "compare.yaml"
    config.write_text(yaml.safe_dump(tree(demo_archive, out, groups=["class"])))
    compare_labeled(config, [], {})
    printed = capsys.readouterr().out
    assert "2 seeds" in printed
    assert "report.html" in printed

    results = pq.read_table(out / "results.parquet")
    assert results.column_names == RESULT_SCHEMA.names
    rows = results.to_pylist()
    whole = [row for row in rows if row["scope"] == "all" and row["decision"] == "top1"]
    assert len(whole) == 7 * 2 * 2 * 2  # arms, seeds, losses, updates
    sizes = {(row["arm"], row["seed"]): row["num_rows"] for row in whole}
    for seed in range(2):
        assert sizes["diverse target=4", seed] == sizes["random target=4", seed]
        assert sizes["undersample target=4", seed] == sizes["random target=4", seed]
    by_arm = {(r["arm"], r["updates"]): r["num_updates"] for r in whole}
    assert by_arm["random size=24", "equal-updates"] == by_arm["baseline", "equal-epochs"]
    classes = [row for row in rows if row["scope"] == "class"]
    assert all(0 <= row["recall"] <= 1 for row in classes)

    content = read_comparison(Store(), str(out))
    gaps = content.facts["gaps"]
    assert {row["method"] for row in gaps} == {"diverse target=4"}
    assert {row["loss"] for row in gaps} == {"plain", "class-weighted"}
    assert {row["claim"][0] for row in content.facts["claims"]} == {"a", "b", "c"}
    base = next(r for r in content.facts["overall"] if r["arm"] == "baseline")
    values = [
        r["macro_recall"] for r in whole
        if (r["arm"], r["loss"], r["updates"]) == ("baseline", base["loss"], base["updates"])
    ]  # fmt: skip
    assert base["mean"] == pytest.approx(np.mean(values))

    page = (out / "report.html").read_text()
    assert "demo &lt;b&gt;tiles&lt;/b&gt;" in page
    assert "<b>tiles" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"figure_1_counts.png", "figure_1_counts.svg"} <= figures
    assert any(name.startswith("figure_9_low") for name in figures)
    assert any(name.startswith("patel_5") for name in figures)

    check_groups_that_are_classes(rows, content, page)

    # Once more, with a third seed for one arm: what is there is kept, bit by bit.
    done = {p: p.read_bytes() for p in (out / "cells").rglob("*") if p.is_file()}
    run_comparison(
        load_model(ComparisonConfig, config, ["seeds=3", "strategies=[{name: baseline}]"])
    )
    assert done == {p: p.read_bytes() for p in done}
    assert len(list((out / "cells" / "done").iterdir())) == 7 * 2 + 1


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("compare-*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_configurations_are_valid(path: Path) -> None:
    config = load_model(ComparisonConfig, path)
    assert config.seeds >= 5
    assert config.pools >= 5
    labels = [arm.label for arm in config.arms()]
    assert {"baseline", "class_frequency", "effective_number"} <= set(labels)
    assert config.dataset.synthetic == ("synthetic" in path.stem)
    own = {"CLIP": "crop-bicubic", "ResNet-18": "crop-bilinear"}  # as their weights were trained
    for named in config.encoders:
        if named.encoder is not None and named.encoder.image_size == 224:
            assert named.encoder.resize == own.get(named.name, "stretch"), named.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": [{"name": "undersample", "target": 3}]}, "must have baseline"),
        ({"strategies": [{"name": "baseline"}, {"name": "baseline"}]}, "'baseline' is there twice"),
        ({"strategies": [{"name": "baseline"}, {"name": "random"}]}, "random must have either"),
        ({"strategies": [{"name": "baseline", "uri": "x"}]}, "uri must be given for manifest"),
        ({"strategies": [{"name": "baseline", "vary": {"k": 3}}]}, "vary must be"),
        ({"encoders": [{"name": "x"}]}, "x must have either encoder or run"),
        ({"seed_s": 3}, "unknown key 'seed_s'. Did you mean 'seeds'"),
    ],
)
def test_refused_configurations(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(ComparisonConfig, tree(tmp_path, tmp_path / "out", **change))


def test_missing_data_says_what_to_download(tmp_path: Path) -> None:
    config = load_model(
        ComparisonConfig, CONFIGS / "compare-planet.yaml", [f"dataset.labels={tmp_path / 'no.csv'}"]
    )
    with pytest.raises(DataError, match=r"planet-understanding-the-amazon-from-space.*got none"):
        run_comparison(config)
    inside = tree(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"must not lie inside dataset\.images"):
        run_comparison(build_model(ComparisonConfig, inside))
    gone = tree(tmp_path / "gone", tmp_path / "out")
    with pytest.raises(DataError, match=r"one folder of images per class.*there is nothing at"):
        run_comparison(build_model(ComparisonConfig, gone))
