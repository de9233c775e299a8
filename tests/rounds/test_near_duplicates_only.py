"""`balancer dedup`: tables, another threshold from them, messages and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balancer.cli import main
from balancer.config_deduplicate import DeduplicateConfig
from balancer.distances import nearest_rows
from balancer.selection.near_duplicates import deduplicate
from balancer.storage.filesystem import Store
from tests.selection.near_data import near_rows

POINTS, IDS = near_rows(400)


class Call:
    """Runs `balancer dedup`; keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main(["dedup", *map(str, arguments)])
        self.out, self.err = self._capsys.readouterr()
        return int(caught.value.code or 0)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """Return two Parquet files in a folder."""
    folder = tmp_path / "embeddings"
    folder.mkdir()
    for part, rows in enumerate(np.split(np.arange(len(IDS)), [150])):
        table = pa.table({"tile_id": IDS[rows].tolist(), "embedding": POINTS[rows].tolist()})
        pq.write_table(table, folder / f"{part}.parquet")
    return folder


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def expected_by_id(threshold: float) -> dict[str, str | None]:
    """Return for each id the kept one for which it is dropped."""
    found = deduplicate(POINTS, IDS, DeduplicateConfig(threshold=threshold))
    return {
        str(IDS[row]): str(IDS[by]) if by >= 0 else None
        for row, by in enumerate(found.kept_by.tolist())
    }


def by_id(table: pa.Table) -> dict[str, str | None]:
    return dict(zip(table["tile_id"].to_pylist(), table["kept_by"].to_pylist(), strict=True))


def test_a_table_of_all_tiles(call: Call, embeddings: Path, tmp_path: Path) -> None:
    out = tmp_path / "near.parquet"
    assert call(embeddings, "--threshold", 0.95, "--out", out) == 0
    table = pq.read_table(out)
    assert by_id(table) == expected_by_id(0.95)
    kept = np.array(table["kept"].to_pylist())
    dropped = int((~kept).sum())
    lines = call.out.splitlines()
    assert lines[0] == (
        f"400 tiles = {400 - dropped} kept + {dropped} near-duplicates "
        f"(cosine similarity of at least 0.95)"
    )
    assert lines[1] == "exact: all tiles were compared in one block"
    assert sum(table["num_near_duplicates"].to_pylist()) == dropped
    assert min(table.filter(pa.array(~kept))["similarity"].to_pylist()) >= 0.95 - 1e-6
    rows = [table["tile_id"].to_pylist().index(name) for name in IDS.tolist()]
    squared = nearest_rows(POINTS, POINTS[kept[rows]])[1]
    assert squared.max() <= 2 - 2 * 0.95
    facts = json.loads(table.schema.metadata[b"balancer"])
    assert (facts["input"], facts["near_duplicates"]) == (400, dropped)


def test_cells_are_told(call: Call, embeddings: Path, tmp_path: Path) -> None:
    out = tmp_path / "near.parquet"
    assert call(embeddings, "--threshold", 0.95, "--num-cells", 10, "--out", out) == 0
    assert "exact across the borders of 10 cells: each tile was compared in " in call.out
    assert by_id(pq.read_table(out)) == expected_by_id(0.95)


def test_another_threshold_from_the_tables_alone(
    call: Call, embeddings: Path, tmp_path: Path
) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    assert call(embeddings, "--threshold", 0.95, "--floor", 0.9, "--out", first) == 0
    assert "pairs down to the floor 0.9 are listed" in call.out
    for file in embeddings.iterdir():
        file.unlink()
    assert call(first, "--threshold", 0.9, "--out", second) == 0
    assert by_id(read(second / "tiles")) == expected_by_id(0.9)
    assert call(second, "--threshold", 0.98, "--out", third) == 0
    assert by_id(read(third / "tiles")) == expected_by_id(0.98)
    assert read(third / "pairs").num_rows == read(first / "pairs").num_rows
    counts = read(third / "tiles")["num_near_duplicates"].to_pylist()
    assert sum(counts) == sum(by is not None for by in expected_by_id(0.98).values())

    assert call(first, "--threshold", 0.85, "--out", tmp_path / "low") == 2
    assert "threshold must be at least the floor of 0.9" in call.err
    assert "got 0.85. Deduplicate the embeddings again with another --floor" in call.err
    assert not (tmp_path / "low").exists()
    assert call(first, "--threshold", 0.95, "--rule", "semdedup", "--out", tmp_path / "x") == 2
    assert "Change the threshold only" in call.err
    assert call(first, "--distance", 0.1, "--out", tmp_path / "x") == 2
    assert "was made by --threshold" in call.err


def test_no_floor_no_other_threshold(call: Call, embeddings: Path, tmp_path: Path) -> None:
    assert call(embeddings, "--threshold", 0.95, "--out", tmp_path / "first") == 0
    assert call(tmp_path / "first", "--threshold", 0.97, "--out", tmp_path / "second") == 3
    assert "it was written without a floor" in call.err


def test_the_nearest_with_a_floor(call: Call, embeddings: Path, tmp_path: Path) -> None:
    assert call(embeddings, "--threshold", 0.99, "--floor", 0.5, "--out", tmp_path / "near") == 0
    table = read(tmp_path / "near" / "tiles")
    for place in range(0, 400, 41):
        row = IDS.tolist().index(table["tile_id"][place].as_py())
        others = np.delete(np.arange(400), row)
        nearest, squared = nearest_rows(POINTS[row : row + 1], POINTS[others])
        assert table["similarity"][place].as_py() == pytest.approx(1 - squared[0] / 2, abs=1e-6)
        if squared[0] > 0:
            assert table["nearest_id"][place].as_py() == IDS[others[nearest[0]]]


def test_approximate_and_semdedup(call: Call, embeddings: Path, tmp_path: Path) -> None:
    arguments = (embeddings, "--threshold", 0.9, "--num-cells", 30)
    assert call(*arguments, "--approximate", "--out", tmp_path / "a.parquet") == 0
    assert "approximate: pairs across the borders of 30 cells are not found, " in call.out
    assert "% of the near pairs" in call.out
    code = call(
        *arguments, "--rule", "semdedup", "--order", "hard", "--out", tmp_path / "s.parquet"
    )
    assert code == 0
    assert "rule semdedup: a dropped tile need not have a kept one near it" in call.out


def test_same_bytes_every_time(call: Call, embeddings: Path, tmp_path: Path) -> None:
    for name in ("one.parquet", "other.parquet"):
        assert call(embeddings, "--threshold", 0.95, "--out", tmp_path / name) == 0
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "give either threshold"),
        (("--threshold", 0.9, "--rule", "other"), 2, "rule: Input should be 'greedy' or"),
        (("--threshold", 0.9, "--no-normalize"), 2, "Give --distance with --no-normalize"),
        (("--threshold", 0.9, "--floor", 0.8), 2, "With a floor, --out must be a folder"),
        (("--threshold", 0.9, "--id-column", "name"), 3, "must have the column 'name'"),
    ],
)
def test_refusals(
    call: Call, embeddings: Path, tmp_path: Path, options: tuple[object, ...], code: int,
    message: str,
) -> None:  # fmt: skip
    out = tmp_path / "near.parquet"
    assert call(embeddings, *options, "--out", out) == code
    assert message in call.err
    assert not out.exists()


def test_no_file_and_a_row_of_zeros(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "near.parquet"
    assert call(tmp_path / "none.npy", "--threshold", 0.9, "--out", out) == 3
    assert "must be a .npy file; there is none" in call.err
    np.save(tmp_path / "zeros.npy", np.zeros((3, 2), np.float32))
    assert call(tmp_path / "zeros.npy", "--threshold", 0.9, "--out", out) == 3
    assert "--no-normalize" in call.err
    code = call(tmp_path / "zeros.npy", "--distance", 0.1, "--no-normalize", "--out", out)
    assert code == 0
    assert pq.read_table(out)["similarity"].null_count == 3


def test_a_folder_with_other_parts_is_refused(call: Call, embeddings: Path, tmp_path: Path) -> None:
    out = tmp_path / "near"
    assert call(embeddings, "--threshold", 0.95, "--floor", 0.9, "--out", out) == 0
    assert call(embeddings, "--threshold", 0.95, "--out", out) == 2
    assert "would be mixed with the new tables. Name another folder" in call.err


@pytest.mark.s3
def test_an_object_store_in_and_out(
    call: Call, embeddings: Path, tmp_path: Path, s3_bucket: str
) -> None:
    """`s3://` embeddings give tables under `s3://`: those of the local files, byte for byte."""
    store = Store()
    for file in sorted(embeddings.iterdir()):
        store.write_bytes(f"{s3_bucket}/embeddings/{file.name}", file.read_bytes())
    arguments = ("--threshold", 0.95, "--floor", 0.9)
    assert call(f"{s3_bucket}/embeddings", *arguments, "--out", f"{s3_bucket}/near") == 0
    said = call.out
    assert call(embeddings, *arguments, "--out", tmp_path / "near") == 0
    local = sorted(path for path in (tmp_path / "near").rglob("*.parquet"))
    assert {path.parent.name for path in local} >= {"tiles", "pairs"}
    for path in local:
        name = path.relative_to(tmp_path / "near").as_posix()
        remote = pq.read_table(pa.BufferReader(store.read_bytes(f"{s3_bucket}/near/{name}")))
        assert remote.equals(pq.read_table(path))
    assert said.splitlines()[0] == call.out.splitlines()[0]
    again = (f"{s3_bucket}/near", "--threshold", 0.97, "--out", f"{s3_bucket}/near97.parquet")
    assert call(*again) == 0
    table = pq.read_table(pa.BufferReader(store.read_bytes(f"{s3_bucket}/near97.parquet")))
    assert by_id(table) == expected_by_id(0.97)
