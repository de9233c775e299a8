"""The archive that most tests of a run begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.tiny_runs import tile_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an archive: a folder of ten readable tiles in three classes."""
    return tile_folder(tmp_path / "tiles")
