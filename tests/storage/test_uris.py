from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer.storage.uris import lies_inside


@pytest.mark.parametrize(
    ("uri", "folder", "inside"),
    [
        ("/data/tiles/run", "/data/tiles", True),
        ("/data/tiles", "/data/tiles/", True),
        ("/data/tiles/../run", "/data/tiles", False),
        ("/data/tiles-run", "/data/tiles", False),
        ("/data", "/data/tiles", False),
        ("/data/run", "/", True),
        ("file:///data/tiles/run", "/data/tiles", True),
        ("s3://bucket/tiles/run", "s3://bucket/tiles", True),
        ("s3://bucket/tiles-run", "s3://bucket/tiles/", False),
        ("s3://bucket/run", "s3://bucket", True),
        ("s3://bucket-2/run", "s3://bucket", False),
        ("s3://data/tiles/run", "/data/tiles", False),
    ],
)
def test_lies_inside(uri: str, folder: str, inside: bool) -> None:
    assert lies_inside(uri, folder) is inside


def test_links_and_relative_paths_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiles").mkdir()
    os.symlink(tmp_path / "tiles", tmp_path / "link")
    assert lies_inside(str(tmp_path / "link" / "run"), str(tmp_path / "tiles"))
    monkeypatch.chdir(tmp_path / "tiles")
    assert lies_inside("run", str(tmp_path / "link"))
    assert not lies_inside("../run", str(tmp_path / "link"))
