"""A small run written with the storage layer, as the stages leave it, and read back."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from balancer.config import ArchiveConfig
from balancer.errors import DataError
from balancer.report.collect import collect, write_report
from balancer.report.measured import named_measures, outcome_columns
from balancer.report.page import render_page
from balancer.report.samples import MAX_SHEETS, project, spread_over
from balancer.storage.embedding_shards import write_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.manifests import manifest_table, write_manifest
from balancer.storage.sources import discover
from balancer.storage.tables import write_table
from balancer.storage.tile_shards import index_shard
from balancer.types import Selection

NUM_CLUSTERS = 3
NUM_PICKED = 9


class SmallRun:
    """Writes an archive of 30 tiles (and one broken one) and a run over it, step by step."""

    def __init__(self, folder: Path, *, labeled: bool) -> None:
        self.store = Store()
        self.archive = folder / "archive"
        self.run_uri = str(folder / "run")
        self.ledger = Ledger(self.store, self.run_uri)
        self.labeled = labeled
        rng = np.random.default_rng(0)
        for i in range(30):
            home = self.archive / ("forest" if i % 3 else "mine") if labeled else self.archive
            home.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16 if i % 2 else 200, 16, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            (home / f"{i:02d}.png").write_bytes(buffer.getvalue())
            sidecar = {"lon": float(i), "lat": 40.0} if labeled else {}
            (home / f"{i:02d}.json").write_text(json.dumps(sidecar))
        (home / "broken.png").write_bytes(b"not an image")
        self.config: dict[str, Any] = {
            "archive": {"uri": str(self.archive)},
            "selection": {"budget": NUM_PICKED},
            "encoder": {"kind": "simclr", "backbone": "small-conv", "image_size": 32},
            "embedding": {"normalize": True},
            "rounds": 3,
            "seed": 5,
        }
        self.ledger.open_run({"config": self.config, "input": "abc"}, "0.1.0")

    def commit_catalog(self) -> None:
        shards, quarantine, reasons = [], [], Counter[str]()
        self.tables: dict[str, pa.Table] = {}
        archive = ArchiveConfig(uri=str(self.archive), tiles_per_shard=12)
        for source in discover(self.store, archive):
            indexed = index_shard(self.store, source, archive)
            key = source.shard_id
            file = write_table(
                self.store, self.ledger.absolute(f"catalog/{key}.parquet"), indexed.table
            )
            bad = write_table(
                self.store, self.ledger.absolute(f"catalog/{key}-q.parquet"), indexed.quarantine
            )
            reasons.update(indexed.quarantine["reason"].to_pylist())
            self.tables[key] = indexed.table
            shards.append(
                {
                    "shard_id": key,
                    "source_uri": source.uri,
                    "path": self.ledger.relative(file.uri),
                    "sha256": file.sha256,
                    "num_tiles": file.num_rows,
                    "num_bytes": 1000,
                }
            )
            quarantine.append(
                {
                    "path": self.ledger.relative(bad.uri),
                    "sha256": bad.sha256,
                    "rows": bad.num_rows,
                }
            )
        facts = {
            "inputs": "abc",
            "shards": shards,
            "quarantine": quarantine,
            "reasons": dict(reasons),
            "num_listed": 31,
            "num_tiles": 30,
            "num_quarantined": 1,
            "num_duplicates": 0,
            "num_left_out": 0,
            "label_column": "label" if self.labeled else None,
        }
        self.ledger.commit("catalog", facts)

    def commit_round(self, index: int) -> None:
        rng = np.random.default_rng(index)
        embeddings, assignments, names = [], [], []
        for key, table in self.tables.items():
            ids = np.array(table["tile_id"].to_pylist())
            names += ids.tolist()
            shard = write_embeddings(
                self.store,
                self.ledger.absolute(f"round-{index:03d}/embed/{key}.parquet"),
                shard_id=key,
                tile_ids=ids,
                embeddings=rng.normal(size=(len(ids), 8)).astype(np.float32),
                encoder_fingerprint="e",
            )
            embeddings.append({"path": self.ledger.relative(shard.uri), "sha256": shard.sha256})
            clusters = pa.table(
                {
                    "tile_id": ids.tolist(),
                    "cluster": pa.array(np.arange(len(ids)) % NUM_CLUSTERS, pa.int32()),
                }
            )
            uri = self.ledger.absolute(f"round-{index:03d}/assign/{key}.parquet")
            file = write_table(self.store, uri, clusters)
            assignments.append({"path": self.ledger.relative(uri), "sha256": file.sha256})
        picked = np.array(sorted(names)[:NUM_PICKED])
        selection = Selection(
            tile_ids=picked,
            shard_ids=np.full(NUM_PICKED, "s"),
            cluster=np.zeros(NUM_PICKED, np.int64),
            distance=np.zeros(NUM_PICKED, np.float32),
            weight=np.ones(NUM_PICKED),
            reason=np.full(NUM_PICKED, "r"),
        )
        catalog = pa.concat_tables(self.tables.values(), promote_options="permissive")
        manifest = write_manifest(
            self.store,
            self.ledger.absolute(f"round-{index:03d}/manifest.parquet"),
            manifest_table(selection, catalog, round_index=index),
            {},
        )
        random = {"counts": [6.2, 2.8], "std": 1.7} if self.labeled else None
        commit = {
            "round": index,
            "encoder": {"fingerprint": "encoder-fingerprint", "kind": "simclr", "dim": 8},
            "embeddings": embeddings,
            "assignments": assignments,
            "clustering": {"inputs": "clustering-fingerprint"},
            "manifest": {
                "path": self.ledger.relative(manifest.uri),
                "sha256": manifest.sha256,
                "rows": manifest.num_rows,
                "selection_fingerprint": manifest.selection_fingerprint,
            },
            "measures": {
                "sets": {
                    "archive": {"gini": 0.5, "classes": None},
                    "farthest-point": {"gini": 0.3},
                    "random": {"gini": 0.45, "classes": random},
                    "selected": {"gini": 0.2, "covering_radius": {"99": 0.4}},
                },
                "churn": 0.25 if index else None,
                "class_names": ["forest", "mine"],
            },
            "health": {"effective_rank": 6.0, "spread": 0.9},
            "history": [{"epoch": 0, "loss": 3.0}, {"epoch": 1, "loss": 2.0}],
            "warnings": ["The embedding is weak."],
        }
        self.ledger.commit(f"round-{index:03d}", commit)

    def finish(self) -> None:
        self.ledger.commit("final", {"stopped_because": "converged", "manifest": "m.parquet"})


@pytest.fixture(params=[True, False], ids=["labeled", "unlabeled"])
def small_run(request: pytest.FixtureRequest, tmp_path: Path) -> SmallRun:
    return SmallRun(tmp_path, labeled=request.param)


def test_collect_of_a_run_that_converged(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    small_run.commit_round(0)
    small_run.commit_round(1)
    small_run.finish()
    content = collect(small_run.store, small_run.run_uri)
    assert content.title == "run"
    assert content.stopped == "converged"
    assert (content.num_picked, content.request.num_tiles, content.request.budget) == (9, 30, 9)
    assert content.request.encoder == "simclr, small-conv, 32 px"
    assert content.request.strategy == "hybrid-medoid"
    assert content.audit.adds_up
    assert [tile.reason for tile in content.audit.sample] == list(content.audit.reasons)
    assert [column.name for column in content.outcome] == [
        "Archive",
        "Random",
        "Farthest-point",
        "Balanced",
    ]
    assert content.outcome[1].values["gini"] == pytest.approx(0.45)
    assert content.rounds[1].losses == (3.0, 2.0)
    assert content.rounds[1].num_picked == 9
    assert content.rounds[1].values == {
        "gini": 0.2,
        "covering_radius_99": 0.4,
        "churn": 0.25,
        "effective_rank": 6.0,
        "spread": 0.9,
    }
    assert content.warnings == ("The embedding is weak.",)
    assert content.provenance.fingerprints["clustering"] == "clustering-fingerprint"
    assert content.provenance.artefacts["Manifest"] == f"{small_run.run_uri}/m.parquet"


def test_collect_counts_every_tile(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    small_run.commit_round(0)
    content = collect(small_run.store, small_run.run_uri)
    assert content.cluster_sizes is not None
    assert content.cluster_sizes.archive.sum() == 30
    assert content.cluster_sizes.selected.sum() == NUM_PICKED
    assert content.num_clusters == NUM_CLUSTERS
    shown = [tile for sheet in content.clusters for tile in (*sheet.picked, *sheet.dropped)]
    assert len({tile.tile_id for tile in shown}) == 30
    # Small tiles keep their size; large ones are made small.
    sizes = {Image.open(io.BytesIO(tile.jpeg)).size for tile in shown}
    assert sizes == {(16, 16), (80, 80)}
    assert content.projection is not None
    assert content.projection.points.shape == (30, 2)
    assert content.projection.picked.sum() == NUM_PICKED
    if small_run.labeled:
        assert content.class_sizes is not None
        assert content.class_sizes.names == ("forest", "mine")
        assert content.class_sizes.archive.tolist() == [20, 10]
        assert content.class_sizes.random is not None
        assert content.class_sizes.random.tolist() == [6.2, 2.8]
        assert content.coordinates is not None
        assert len(content.coordinates.lon) == 30
    else:
        assert content.class_sizes is None
        assert content.coordinates is None
        assert content.projection.group_kind == "cluster"


def test_collect_twice_gives_the_same_page(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    small_run.commit_round(0)
    first, second = (render_page(collect(small_run.store, small_run.run_uri)) for _ in range(2))
    assert first == second


def test_write_report_beside_the_run_or_elsewhere(small_run: SmallRun, tmp_path: Path) -> None:
    small_run.commit_catalog()
    uri = write_report(small_run.store, small_run.run_uri)
    assert uri == f"{small_run.run_uri}/report.html"
    other = write_report(small_run.store, small_run.run_uri, str(tmp_path / "page.html"))
    assert Path(other).read_bytes() == Path(uri).read_bytes()


def test_collect_before_the_first_round(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    content = collect(small_run.store, small_run.run_uri)
    assert content.num_picked == 0
    assert content.stopped == "not finished: 0 of 3 rounds done"
    assert "No round is finished yet" in render_page(content)


def test_collect_without_a_run_or_a_catalog(small_run: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold spec\.json; .*/nowhere does not"):
        collect(small_run.store, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="must have cataloged its archive"):
        collect(small_run.store, small_run.run_uri)


def test_collect_when_tiles_have_changed_since(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    small_run.commit_round(0)
    next(iter(sorted(small_run.archive.rglob("*.png")))).write_bytes(b"changed")
    content = collect(small_run.store, small_run.run_uri)
    assert "1 of 30 tiles for the contact sheets" in content.warnings[-1]


def test_collect_refuses_a_round_of_another_archive(small_run: SmallRun) -> None:
    small_run.commit_catalog()
    key = next(iter(small_run.tables))
    table = small_run.tables[key]
    renamed = pa.array(["other", *table["tile_id"].to_pylist()[1:]])
    small_run.tables[key] = table.set_column(0, "tile_id", renamed)
    small_run.commit_round(0)
    with pytest.raises(DataError, match="'other' is not"):
        collect(small_run.store, small_run.run_uri)


def test_spreads_of_repeats() -> None:
    sets = {"selected": {"gini": 0.1}, "random": {"gini": 0.5}}
    columns = outcome_columns({"sets": sets, "spreads": {"random": {"gini": 0.02}}})
    assert [column.role for column in columns] == ["compared", "selected"]
    assert columns[0].spread == {"gini": 0.02}
    assert outcome_columns({}) == ()


def test_class_size_std_of_the_archive_is_scaled_to_the_selection() -> None:
    sets = {
        "archive": {"num_tiles": 100, "classes": {"std": 30.0}},
        "selected": {"num_tiles": 10, "classes": {"std": 2.0}},
    }
    archive, selected = outcome_columns({"sets": sets})
    assert archive.values["class_size_std"] == pytest.approx(3.0)
    assert selected.values["class_size_std"] == 2.0


def test_unknown_measures_are_left_out() -> None:
    assert named_measures({"gini": True, "words": "x", "strange": 1.0, "std": 2}) == {
        "class_size_std": 2.0
    }


def test_spread_over_shows_the_largest_and_the_smallest() -> None:
    sizes = np.arange(1, 101)
    shown = spread_over(sizes, MAX_SHEETS)
    assert len(shown) == MAX_SHEETS == len(set(shown.tolist()))
    assert (sizes[shown[0]], sizes[shown[-1]]) == (100, 1)


def test_projection_finds_the_plane_and_explains_it() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) * [3.0, 1.0]
    vectors = np.zeros((200, 5), dtype=np.float32)
    vectors[:, [3, 1]] = plane
    points, explained = project(vectors, np.ones(200, dtype=bool))
    assert sum(explained) == pytest.approx(1.0)
    assert explained[0] > explained[1]
    # An orthonormal change of basis keeps the distances.
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(
        np.linalg.norm(plane[0] - plane[1]), rel=1e-5
    )
    one_dimension = project(vectors[:, 3:4], np.ones(200, dtype=bool))
    assert one_dimension[0].shape == (200, 2)
