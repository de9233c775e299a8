from __future__ import annotations

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


def test_unreadable_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="must be valid YAML"):
        load_config(written(tmp_path, "a: [1"))
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(written(tmp_path, "- 1\n"))


def test_fingerprint_ignores_where_and_on_what_it_runs() -> None:
    base = build_config(MINIMAL)
    moved = build_config({**MINIMAL, "out": "elsewhere", "ray": {"address": "auto"}})
    wider = build_config({**MINIMAL, "embedding": {"num_workers": 7}})
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


def test_frozen_encoder_needs_weights_or_a_factory() -> None:
    with pytest.raises(ConfigError, match="frozen needs weights"):
        build_config({**MINIMAL, "encoder": {"kind": "frozen"}})
    with pytest.raises(ConfigError, match="belong together"):
        build_config({**MINIMAL, "encoder": {"backbone": "factory"}})


def test_difference_lists_leaves() -> None:
    old, new = Config.model_validate(MINIMAL), Config.model_validate({**MINIMAL, "seed": 4})
    assert config_difference(old.frozen_part(), new.frozen_part()) == ["seed: 0 -> 4"]


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).rounds >= 1
