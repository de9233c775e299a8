"""Configurations of runs that take seconds, and what lies in a run's folder afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balancer import run_rounds
from balancer.config import Config
from balancer.config_file import build_config
from balancer.rounds.runner import RunResult
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from tests.data.make_tiles import make_tiles, write_folder

NETWORKS = Path(__file__).with_name("networks.py")
QUIET = Reporter(quiet=True)
Tree = dict[str, Any]


def trained_tree(uri: str | Path, out: str | Path, **changes: object) -> Tree:
    """Return two rounds of SimCLR on a tiny network."""
    tree: Tree = {
        "archive": {"uri": str(uri), "label_column": "class"},
        "selection": {"budget": 24},
        "out": str(out),
        "rounds": 2,
        "encoder": {"image_size": 16, "width": 8},
        "training": {"epochs": 1, "batch_size": 64},
        "convergence": {"max_churn": 0.0, "max_gain": 0.0},
    }
    return _merge(tree, changes)


def frozen_tree(
    uri: str | Path, out: str | Path, network: str = "projection", **changes: object
) -> Tree:
    """Return one round of a frozen network of `networks.py`, which needs no training."""
    tree: Tree = {
        "archive": {"uri": str(uri)},
        "selection": {"budget": 4},
        "out": str(out),
        "rounds": 2,
        "encoder": {
            "kind": "frozen",
            "backbone": "factory",
            "factory": f"{NETWORKS}:{network}",
            "image_size": 16,
        },
        "measures": {"compare_repeats": 1},
    }
    return _merge(tree, changes)


def tile_folder(root: Path) -> Path:
    """Write ten tiles of three classes, with sidecars, as a folder tree; return `root`."""

    def write(name: str, data: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    write_folder(write, make_tiles())
    return root


def _merge(tree: Tree, changes: Tree) -> Tree:
    """Put the changes over the tree, section by section."""
    merged = {
        name: tree[name] | value
        for name, value in changes.items()
        if isinstance(value, dict) and name in tree
    }
    return tree | changes | merged


def trained(uri: str | Path, out: str | Path, **changes: object) -> Config:
    return build_config(trained_tree(uri, out, **changes))


def frozen(
    uri: str | Path, out: str | Path, network: str = "projection", **changes: object
) -> Config:
    return build_config(frozen_tree(uri, out, network, **changes))


@dataclass(frozen=True)
class Finished:
    """A finished run on the disk."""

    config: Config
    result: RunResult
    folder: Path
    files: Mapping[str, tuple[int, bytes]]

    @property
    def manifest(self) -> bytes:
        return (self.folder / "manifest.parquet").read_bytes()

    def record(self, *path: str) -> Tree:
        return read_json(Store(), str(self.folder), *path)


def finish(config: Config) -> Finished:
    result = run_rounds(config, reporter=QUIET)
    folder = Path(config.out)
    return Finished(config, result, folder, snapshot(folder))


def read_json(store: Store, run: str, *path: str) -> Tree:
    """Return a record of a run."""
    record: Tree = json.loads(store.read_bytes(store.join(run, *path)))
    return record


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modification time and content of every file under a folder, by relative path."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
