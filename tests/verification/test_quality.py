"""Weighted and trimmed selections: what the verifier recomputes, and forgeries that it finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.tables import read_table, write_table
from balancer.verification import Status, VerificationReport, verify_manifest
from tests.data.certified import DIM, Facts, made_embeddings, rewrite

WEIGHTED = ("farthest-point", "hybrid", "per-cluster")


def made(folder: Path, **selection: object) -> Path:
    """Select from embeddings with the quality columns `q` and `other`; return the manifest."""
    ids, points = made_embeddings()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), DIM)
    rng = np.random.default_rng(1)
    columns = {
        "q": rng.uniform(1, 5, len(ids)),
        "other": rng.uniform(1, 5, len(ids)),
        "holes": [None, *range(1, len(ids))],
        "words": ["good"] * len(ids),
        "low": [1e-9, *[1.0] * (len(ids) - 1)],
    }
    table = pa.table({"tile_id": ids.tolist(), "embedding": vectors, **columns})
    write_table(Store(), str(folder / "embeddings.parquet"), table)
    np.save(folder / "rows.npy", points)
    uri, out = str(folder / "embeddings.parquet"), str(folder / "manifest.parquet")
    select_embeddings(EmbeddingsRequest(uri, out, {"budget": 25} | selection))
    return folder / "manifest.parquet"


def verify(path: Path, embeddings: Path | None = None) -> VerificationReport:
    return verify_manifest(
        Store(), str(path), embeddings=None if embeddings is None else str(embeddings)
    )


def outcomes(report: VerificationReport) -> dict[str, tuple[Status, str]]:
    return {check.name: (check.status, check.message) for check in report.checks}


def rename_column(column: str | None) -> Callable[[Facts], None]:
    def rename(facts: Facts) -> None:
        facts["config"]["selection"]["quality_column"] = column

    return rename


@pytest.mark.parametrize("strategy", WEIGHTED)
def test_weighted_selections_hold(tmp_path: Path, strategy: str) -> None:
    report = verify(made(tmp_path, strategy=strategy, quality_column="q"))
    assert report.verified, report
    found = outcomes(report)
    assert found["quality"][0] is found["distances"][0] is Status.PASSED
    inside = strategy == "per-cluster"
    assert found["pick order"][0] is (Status.SKIPPED if inside else Status.PASSED)
    assert ("not checked: picks inside clusters" in found["pick order"][1]) == inside


@pytest.mark.parametrize("strategy", WEIGHTED)
@pytest.mark.parametrize(
    ("column", "check", "problem"),
    [
        ("other", "distances", "from the picks before it, times its quality,; the table says"),
        (None, "distances", "from the picks before it; the table says"),
        ("missing", "quality", "has no column 'missing'"),
        ("holes", "quality", "a finite number above 0; '000' has nan (1 have none)"),
        ("words", "quality", "a finite number above 0; '000' has nan (300 have none)"),
        ("low", "quality", "must not fall below 1e-06 of the greatest, 1.0; it falls to 1e-09"),
    ],
)
def test_another_column_is_found(
    tmp_path: Path, strategy: str, column: str | None, check: str, problem: str
) -> None:
    path = made(tmp_path, strategy=strategy, quality_column="q")
    rewrite(path, rename_column(column))
    report = verify(path)
    assert not report.verified
    status, message = outcomes(report)[check]
    assert status is Status.FAILED
    assert problem in message


@pytest.mark.parametrize("named", ["rows.npy", "bare.parquet"])
def test_what_cannot_be_reached_is_not_passed(tmp_path: Path, named: str) -> None:
    path = made(tmp_path, strategy="farthest-point", quality_column="q", num_outliers=3)
    table = read_table(Store(), str(tmp_path / "embeddings.parquet"))
    write_table(Store(), str(tmp_path / "bare.parquet"), table.select(["tile_id", "embedding"]))
    if named == "rows.npy":  # its ids are 0, 1, ...
        ids = [str(int(tile_id)) for tile_id in table["tile_id"].to_pylist()]
        table = table.set_column(0, "tile_id", pa.array(ids))
        write_table(Store(), str(tmp_path / "embeddings.parquet"), table)
        uri, out = str(tmp_path / "embeddings.parquet"), str(path)
        select_embeddings(
            EmbeddingsRequest(
                uri, out, {"budget": 9, "strategy": "farthest-point", "quality_column": "q",
                           "num_outliers": 3},
            )
        )  # fmt: skip
    assert verify(path).verified
    report = verify(path, tmp_path / named)
    assert not report.verified
    assert report.lacks_quality
    assert report.named(Status.FAILED) == []
    found = outcomes(report)
    for name in ("quality", "distances", "pick order", "outliers"):
        assert found[name][0] is Status.SKIPPED
        assert found[name][1].startswith("not checked: ")
    assert found["covering radii"][0] is Status.PASSED
    rewrite(path, rename_column("missing"))
    assert outcomes(verify(path, tmp_path / "embeddings.parquet"))["quality"][0] is Status.FAILED


@pytest.mark.parametrize("quality", ["q", None])
def test_a_trimmed_order_is_checked(tmp_path: Path, quality: str | None) -> None:
    path = made(tmp_path, strategy="farthest-point", quality_column=quality, num_outliers=4)
    found = outcomes(verify(path))
    for name in ("distances", "pick order", "outliers"):
        assert found[name][0] is Status.PASSED
    outliers = read_table(Store(), str(path)).schema.metadata[b"balancer"]
    assert b'"outliers":["' in outliers

    def reverse(facts: Facts) -> None:
        facts["outliers"] = facts["outliers"][::-1]

    rewrite(path, reverse)
    status, message = outcomes(verify(path))["outliers"]
    assert status is Status.FAILED
    assert "0 rows must be farther from the picks than" in message
    rewrite(path, reverse)

    def other_rows(table: pa.Table) -> pa.Table:
        ids = table["tile_id"].to_pylist()
        ids[5:7] = ids[6], ids[5]
        return table.set_column(0, "tile_id", pa.array(ids))

    rewrite(path, change_table=other_rows)
    found = outcomes(verify(path))
    assert found["pick order"][0] is found["distances"][0] is Status.FAILED
    assert "4 rows must be farther than " in found["pick order"][1]


def test_picks_over_all_rows_come_last(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="hybrid", quality_column="q")

    def swap(table: pa.Table) -> pa.Table:
        reasons = table["reason"].to_pylist()
        place = table.column_names.index("reason")
        return table.set_column(place, "reason", pa.array(reasons[::-1]))

    rewrite(path, change_table=swap)
    status, message = outcomes(verify(path))["pick order"]
    assert (status, message) == (
        Status.FAILED,
        "picks by farthest-point over all rows must come last",
    )


def test_doubled_distances_without_the_column_are_not_verified(tmp_path: Path) -> None:
    path = made(tmp_path, strategy="farthest-point", quality_column="q")
    table = read_table(Store(), str(tmp_path / "embeddings.parquet"))
    write_table(Store(), str(tmp_path / "bare.parquet"), table.select(["tile_id", "embedding"]))

    def double(table: pa.Table) -> pa.Table:
        values = [None if d is None else 2 * d for d in table["distance"].to_pylist()]
        place = table.column_names.index("distance")
        return table.set_column(place, table.schema.field(place), pa.array(values, pa.float32()))

    rewrite(path, change_table=double)
    report = verify(path, tmp_path / "bare.parquet")
    assert report.recomputed
    assert not report.verified
    assert outcomes(verify(path))["distances"][0] is Status.FAILED
