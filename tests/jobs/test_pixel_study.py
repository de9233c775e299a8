"""The study of arms that train on pixels: its table, its job, and that it continues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from balancer.comparison.pixel_study import (
    ARMS,
    EXACT,
    LabeledReader,
    PixelCase,
    PixelScore,
    score_pixel_arm,
    summarize_pixel_arms,
)
from balancer.comparison.pixel_training import PixelSettings
from balancer.comparison.triplet_training import TripletSettings
from balancer.embedding.backbones import Backbone
from balancer.errors import DataError
from balancer.storage.filesystem import Store
from balancer.storage.tile_arrays import read_labeled_tiles
from jobs import pixel_study
from tests.comparison.pixel_tiles import made_backbone, made_tiles
from tests.data.make_tiles import encode


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    reader, labels = made_tiles(9, 9, 9)
    pixels = reader(np.arange(27))
    for row, number in enumerate(labels.top_class()):
        folder = tmp_path / "tiles" / labels.classes[number]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.png").write_bytes(encode(pixels[row]))
    return tmp_path / "tiles"


def test_tiles_in_class_folders(archive: Path) -> None:
    found = read_labeled_tiles(Store(), str(archive), 16)
    assert found.tiles.shape == (27, 16, 16, 3)
    assert found.labels.tolist() == ["blue"] * 9 + ["green"] * 9 + ["red"] * 9
    reader, _ = made_tiles(9, 9, 9)
    row = int(Path(found.ids[0]).stem)
    assert (found.tiles[0] == reader(np.array([row]))[0]).all()
    (archive / "red" / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"readable; red/broken.png"):
        read_labeled_tiles(Store(), str(archive), 16)
    (archive / "red" / "broken.png").unlink()
    (archive / "loose.png").write_bytes((archive / found.ids[0]).read_bytes())
    with pytest.raises(DataError, match=r"folder of its class; loose.png"):
        read_labeled_tiles(Store(), str(archive), 16)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns(arm: str) -> None:
    train = LabeledReader(*made_tiles(20, 9, 4))
    test = LabeledReader(*made_tiles(9, 9, 9, seed=1))
    settings = PixelSettings(hidden=16, batch=16, epochs=5, lr=0.01, encoder_lr=0.01)
    views = PixelSettings(augment="all")
    triplets = TripletSettings(num_updates=5, tiles_per_class=4, pixels=views)
    case = PixelCase(1, train, test, settings, triplets)
    found = score_pixel_arm(arm, case, made_backbone(), 2)
    assert (found.arm, found.pool, found.seed) == (arm, 1, 2)
    assert found.macro_recall > 0.6
    assert found == score_pixel_arm(arm, case, made_backbone(), 2)
    with pytest.raises(ValueError, match="arm must be one of baseline"):
        score_pixel_arm("x", case, made_backbone(), 2)


def test_the_table_needs_every_cell() -> None:
    scores = [PixelScore(arm, pool, 0, 0.5, 0.5) for arm in ARMS for pool in (0, 1)]
    assert len(summarize_pixel_arms(scores)) == 2 + len(ARMS)
    with pytest.raises(ValueError, match=r"\('baseline', 1, 0\) is missing \(1 in all\)"):
        summarize_pixel_arms([s for s in scores if (s.arm, s.pool) != ("baseline", 1)])


def test_the_job_continues(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = archive.with_name("out")
    options = ["--archive", str(archive), "--out", str(out), "--image-size", "16", "--width", "4"]
    options += ["--largest", "6", "--imbalance", "3", "--holdout", "3", "--seeds", "1"]
    options += ["--epochs", "2", "--arms", f"baseline,{EXACT}", "--pools"]
    pixel_study.main([*options, "1"])
    trained = []

    def counted(arm: str, case: PixelCase, backbone: Backbone, seed: int) -> PixelScore:
        trained.append((arm, case.pool))
        return score_pixel_arm(arm, case, backbone, seed)

    monkeypatch.setattr(pixel_study, "score_pixel_arm", counted)
    pixel_study.main([*options, "2"])
    assert trained == [("baseline", 1), (EXACT, 1)]
    assert "| baseline |" in (out / "pixels.md").read_text(encoding="utf-8")
