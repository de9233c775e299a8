from __future__ import annotations

import re
from pathlib import Path

import pytest

from balancer.config import Config, config_difference
from balancer.config_file import build_config, load_config
from balancer.errors import ConfigError

MINIMAL = {"archive": {"uri": "tiles"}, "selection": {"budget": 10}}


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_unknown_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    path = written(tmp_path, "archive:\n  uri: x\n  formta: zip\nselection: {budget: 1}\n")
    with pytest.raises(
        ConfigError, match=r"run.yaml:3: unknown key 'archive.formta'. Did you mean"
    ):
        load_config(path)


def test_missing_key_and_wrong_value_are_both_reported(tmp_path: Path) -> None:
    path = written(tmp_path, "archive:\n  uri: x\nrounds: 0\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "'selection' must be given" in str(caught.value)
    assert "run.yaml:3: rounds: Input should be greater than or equal to 1; got 0" in str(
        caught.value
    )


def test_overrides_are_typed_and_blamed(tmp_path: Path) -> None:
    path = written(tmp_path, "archive: {uri: x}\nselection: {budget: 10}\n")
    config = load_config(
        path, ["training.epochs=3", "selection.budget=0.5", "encoder.weights=null"]
    )
    assert (config.training.epochs, config.selection.budget) == (3, 0.5)
    with pytest.raises(ConfigError, match=r"--set training.epochs=many: training.epochs: "):
        load_config(path, ["training.epochs=many"])
    with pytest.raises(ConfigError, match=r"dotted\.key=value"):
        load_config(path, ["training.epochs"])
    with pytest.raises(ConfigError, match=r"rounds: Input should be a valid integer"):
        load_config(path, ["rounds.more=1"])


def test_named_values_are_plain_text(tmp_path: Path) -> None:
    path = written(tmp_path, "archive: {uri: x}\nselection: {budget: 10}\nout: y\n")
    for out in ("2026-11-21", "runs/a #1", "12", "null", "a: b"):
        assert load_config(path, ["out=z"], {"out": out}).out == out
    assert load_config(path, (), {"ray.address": "127.0.0.1:1"}).ray.address == "127.0.0.1:1"
    with pytest.raises(ConfigError, match=r"^--ray-address x: ray must be a section"):
        load_config(path, ["ray=3"], {"ray.address": "x"})


def test_an_override_is_blamed_for_its_section(tmp_path: Path) -> None:
    text = "archive: {uri: x}\nselection: {budget: 10}\nencoder:\n  backbone: small-conv\n"
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=r"^--set trainning.epochs=3: unknown key 'trainning'"):
        load_config(path, ["trainning.epochs=3"])
    with pytest.raises(ConfigError, match=r"^--set encoder.backbone=vit: encoder: backbone must"):
        load_config(path, ["encoder.backbone=vit"])
    with pytest.raises(ConfigError, match=r"^--set selection=\{budget: 0\}: selection.budget: "):
        load_config(path, ["selection={budget: 0}"])
    path.write_text(text.replace("small-conv", "vit"))
    with pytest.raises(ConfigError, match=r"run.yaml:3: encoder: backbone must"):
        load_config(path, ["encoder.width=8"])


def test_a_repeated_key_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "archive:\n  uri: x\n  format: zip\n  uri: y\n")
    with pytest.raises(ConfigError, match=r"run.yaml:4: the key 'archive.uri' .* on line 2"):
        load_config(path)


def test_unreadable_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="must be valid YAML"):
        load_config(written(tmp_path, "a: [1"))
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(written(tmp_path, "- 1\n"))
    with pytest.raises(ConfigError, match="must be valid YAML: month must be in"):
        load_config(written(tmp_path, "a: 2026-13-01\n"))
    with pytest.raises(ConfigError, match=r"run.yaml:3: a section must not contain itself"):
        load_config(written(tmp_path, "archive: &a\n  uri: x\n  more: [*a]\n"))
    with pytest.raises(ConfigError, match="is nested too deeply"):
        load_config(written(tmp_path, "[" * 5000 + "]" * 5000))
    (tmp_path / "latin.yaml").write_bytes(b"out: caf\xe9\n")
    with pytest.raises(ConfigError, match="must be UTF-8 text"):
        load_config(tmp_path / "latin.yaml")


def test_fingerprint_ignores_where_and_on_what_it_runs() -> None:
    base = build_config(MINIMAL)
    moved = build_config({**MINIMAL, "out": "elsewhere", "ray": {"address": "auto"}})
    wider = build_config(
        {**MINIMAL, "embedding": {"num_workers": 7}, "training": {"checkpoint_every": 2}}
    )
    other = build_config({**MINIMAL, "seed": 1})
    assert base.fingerprint() == moved.fingerprint() == wider.fingerprint()
    assert base.fingerprint() != other.fingerprint()


def test_budget_as_share_and_beyond_the_archive() -> None:
    config = build_config({**MINIMAL, "selection": {"budget": 0.15}})
    assert config.selection.resolve(1000) == 150
    with pytest.raises(ConfigError, match=r"must not exceed .* \(9\); got 10"):
        build_config(MINIMAL).selection.resolve(9)
    with pytest.raises(ConfigError, match="whole number of tiles, or a share below 1"):
        build_config({**MINIMAL, "selection": {"budget": 2.5}})


def test_coresets_hold_the_budget() -> None:
    for budget, rows in ((10, 10), (0.5, 1), (10, None)):
        section = {"budget": budget, "coreset_rows": rows}
        assert build_config({**MINIMAL, "selection": section}).selection.coreset_rows == rows
    with pytest.raises(ConfigError, match=r"must be at least the budget \(10\), .*got 9\. Raise"):
        build_config({**MINIMAL, "selection": {"budget": 10, "coreset_rows": 9}})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rounds='2'", "rounds: Input should be a valid integer; got '2'"),
        ("rounds=true", "rounds: Input should be a valid integer; got True"),
        ("selection.budget=true", "selection.budget: Input should be a valid number; got True"),
        ("selection.budget='30'", "selection.budget: Input should be a valid number; got '30'"),
        ("selection.budget=.inf", "selection.budget: Input should be a finite number; got inf"),
        ("selection.budget=.nan", "selection.budget: Input should be a finite number; got nan"),
        ("selection.budget=1e999", "selection.budget: Input should be a finite number; got"),
        ("encoder.std=[0.5, '0.5', 1]", r"encoder.std.1: Input should be a valid number"),
        ("embedding.normalize=1", "embedding.normalize: Input should be a valid boolean; got 1"),
        ("archive.uri=''", "archive.uri: String should have at least 1 character; got ''"),
        ("out=", "out: Input should be a valid string; got None"),
        ("out=''", "out: String should have at least 1 character; got ''"),
        ("out=s3:/b/x", "out: an S3 URI has two slashes, s3://bucket/key; got 's3:/b/x'"),
        ("measures.compare=[random, random]", "compare: each strategy must be listed once; got"),
    ],
)
def test_nothing_is_converted_silently(tmp_path: Path, override: str, message: str) -> None:
    path = written(tmp_path, "archive: {uri: x}\nselection: {budget: 10}\n")
    with pytest.raises(ConfigError, match=re.escape(f"--set {override}: ")) as caught:
        load_config(path, [override])
    assert message in str(caught.value)


def test_exponents_and_whole_numbers_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "archive: {uri: x}\nselection: {budget: 1e2}\n")
    config = load_config(
        path, ["training.learning_rate=1e-3", "encoder.std=[1, 1e-1, 0.5]", "measures.compare=[]"]
    )
    assert (config.selection.budget, config.training.learning_rate) == (100, 0.001)
    assert (config.encoder.std, config.measures.compare) == ((1.0, 0.1, 0.5), ())


def test_fingerprint_ignores_the_engine() -> None:
    base = Config.model_validate(MINIMAL)
    other = {**MINIMAL, "selection": {"budget": 10, "device": "cpu", "filter": "faiss"}}
    assert Config.model_validate(other).frozen_part() == base.frozen_part()
    assert {"device", "filter"}.isdisjoint(base.frozen_part()["selection"])


def test_frozen_encoder_needs_weights_or_a_factory() -> None:
    with pytest.raises(ConfigError, match="frozen needs weights"):
        build_config({**MINIMAL, "encoder": {"kind": "frozen"}})
    with pytest.raises(ConfigError, match="belong together"):
        build_config({**MINIMAL, "encoder": {"backbone": "factory"}})


def test_difference_lists_leaves() -> None:
    old, new = Config.model_validate(MINIMAL), Config.model_validate({**MINIMAL, "seed": 4})
    assert config_difference(old.frozen_part(), new.frozen_part()) == ["seed: 0 -> 4"]


# Those of `balancer compare` are read by tests/comparison.
RUNS = [p for p in sorted(Path("configs").glob("*.yaml")) if not p.name.startswith("compare-")]


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.name)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).rounds >= 1
