"""Outputs that would overwrite what is read, or lie among it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.errors import ConfigError
from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.rounds.near_duplicates_only import DeduplicateRequest, deduplicate_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.outputs import require_apart
from balancer.verification import verify_manifest
from tests.data.certified import made_embeddings


@pytest.fixture(autouse=True)
def embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a matrix, a folder with a Parquet file and a list, and work in their folder."""
    monkeypatch.chdir(tmp_path)
    ids, points = made_embeddings()
    np.save("own.npy", points)
    Path("folder").mkdir()
    table = pa.table({"tile_id": ids.tolist(), "embedding": points.tolist()})
    pq.write_table(table, "folder/own.parquet")
    pq.write_table(table.slice(0, 3).select(["tile_id"]), "list.parquet")
    Path("link").symlink_to("folder")


def contents() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("uri", "fields"),
    [
        ("own.npy", {"out": "own.npy"}),
        ("own.npy", {"out": "./folder/../own.npy"}),
        ("folder/own.parquet", {"out": os.path.join("link", "own.parquet")}),
        ("folder", {"out": "folder/picks.parquet"}),
        ("folder", {"out": "link/deeper/picks.parquet"}),
        ("own.npy", {"out": "o.parquet", "weights": "own.npy"}),
        ("folder", {"out": "o.parquet", "weights": "folder/w.parquet"}),
        ("own.npy", {"out": "o.parquet", "weights": "o.parquet"}),
        ("folder/own.parquet", {"out": "list.parquet", "include": "list.parquet"}),
        ("folder/own.parquet", {"out": "list.parquet", "exclude": "list.parquet"}),
    ],
)
def test_select_overwrites_nothing_that_it_reads(uri: str, fields: dict[str, Any]) -> None:
    before = contents()
    lists = {name: fields[name] for name in ("include", "exclude") if name in fields}
    rest = {name: value for name, value in fields.items() if name not in lists}
    selection: dict[str, Any] = {"budget": 5, "strategy": "hybrid"} | lists
    with pytest.raises(ConfigError, match=r"must (lie outside of|be two files)"):
        select_embeddings(EmbeddingsRequest(uri, selection=selection, **rest))
    assert contents() == before


@pytest.mark.parametrize(
    ("uri", "out"),
    [
        ("folder/own.parquet", "folder/own.parquet"),
        ("folder", "folder/near.parquet"),
        ("folder", "folder"),
        ("folder", "folder/near"),
        ("tiles/part-00000.parquet", "."),
    ],
)
def test_dedup_overwrites_nothing_that_it_reads(uri: str, out: str) -> None:
    Path("tiles").mkdir()
    Path("tiles/part-00000.parquet").write_bytes(Path("folder/own.parquet").read_bytes())
    before = contents()
    with pytest.raises(ConfigError, match=r"--out must (lie outside|not be a folder whose tiles/)"):
        deduplicate_embeddings(DeduplicateRequest(uri, out, {"threshold": 0.9}))
    assert contents() == before


def test_a_stored_result_is_decided_again_in_its_place_but_not_inside() -> None:
    request = DeduplicateRequest("own.npy", "near", {"threshold": 0.95, "floor": 0.9})
    deduplicate_embeddings(request)
    again = deduplicate_embeddings(DeduplicateRequest("near", "./near", {"threshold": 0.9}))
    assert again["threshold"] == 0.9
    with pytest.raises(ConfigError, match="--out must lie outside of the result given"):
        deduplicate_embeddings(DeduplicateRequest("near", "near/o.parquet", {"threshold": 0.95}))


def test_beside_each_other_is_well() -> None:
    require_apart({"out": "o.parquet", "weights": "w.parquet"}, {"it": "own.npy", "none": None})
    assert select_embeddings(EmbeddingsRequest("own.npy", "o.parquet", {"budget": 5})).num_rows == 5


def test_a_manifest_is_found_its_embeddings_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    select_embeddings(EmbeddingsRequest("folder", "o.parquet", {"budget": 5}))
    monkeypatch.chdir("/")
    manifest = tmp_path / "o.parquet"
    facts = json.loads(pq.read_schema(manifest).metadata[b"balancer"])
    assert facts["embeddings"] == str(tmp_path / "folder")
    assert verify_manifest(Store(), str(manifest)).verified


@pytest.mark.parametrize("name", ["include", "exclude"])
@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_an_empty_list_is_as_good_as_none(name: str, kind: str) -> None:
    Path(f"none.{kind}").write_bytes(b"")
    selection = {"budget": 5, "strategy": "farthest-point"}
    request = EmbeddingsRequest("own.npy", "o.parquet", selection | {name: f"none.{kind}"})
    plain = select_embeddings(EmbeddingsRequest("own.npy", "p.parquet", selection))
    assert select_embeddings(request).selection_fingerprint == plain.selection_fingerprint
    assert verify_manifest(Store(), "o.parquet").verified
