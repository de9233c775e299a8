"""Manifests that hold, and tampered ones that fail the right check with a plain message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from balancer.errors import DataError
from balancer.storage.embedding_shards import read_vectors, write_embeddings
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table
from balancer.types import EmbeddingShard
from balancer.verification import Status, VerificationReport, verify_manifest
from balancer.verification.inputs import Columns
from balancer.verification.manifest_checks import selection_digest
from tests.data.certified import BUDGET, FORMS, Facts, made_embeddings, rewrite, write_certified


def verify(
    path: Path,
    embeddings: str | Sequence[EmbeddingShard] | None = None,
    columns: Columns | None = None,
) -> VerificationReport:
    return verify_manifest(Store(), str(path), embeddings=embeddings, columns=columns)


def outcome(report: VerificationReport, name: str) -> tuple[Status, str]:
    (check,) = [check for check in report.checks if check.name == name]
    return check.status, check.message


def message(report: VerificationReport, name: str) -> str:
    """Return the message of the only check that failed."""
    assert report.named(Status.FAILED) == [name], report
    return outcome(report, name)[1]


def certificate(facts: Facts) -> Facts:
    found: Facts = facts["certificate"]
    return found


def replace_rows(table: pa.Table, row: int, **values: object) -> pa.Table:
    for name, value in values.items():
        column = table[name].to_pylist()
        column[row] = value
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(column, table.schema.field(name).type))
    return table


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_form_holds(tmp_path: Path, form: str, normalize: bool) -> None:
    path, _ = write_certified(tmp_path, form, normalize=normalize)
    report = verify(path)
    assert report.verified, report
    for name in ("certificate", "lower bound and ratio", "covering radii", "packing", "embeddings"):
        assert outcome(report, name)[0] is Status.PASSED
    greedy = form in ("farthest-point", "included", "everything")
    assert outcome(report, "budget curve")[0] is (Status.PASSED if greedy else Status.SKIPPED)


class TestTampered:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_certified(tmp_path)[0]

    def test_an_edited_radius(self, path: Path) -> None:
        """All numbers in step with each other, but not with the embeddings."""

        def halve(facts: Facts) -> None:
            found = certificate(facts)
            found["covering_radius"] = {k: v / 2 for k, v in found["covering_radius"].items()}
            for key in ("radius", "lower_bound"):
                found[key] /= 2
            found["packing"]["radius"] /= 2
            found["budget_curve"][-1] = [BUDGET, found["radius"], found["lower_bound"]]

        rewrite(path, halve)
        report = verify(path)
        assert report.named(Status.FAILED) == ["covering radii", "budget curve"]
        assert "the 95 % radius must be" in outcome(report, "covering radii")[1] or (
            "the 100 % radius must be" in outcome(report, "covering radii")[1]
        )
        assert "20 picks must have the radius" in outcome(report, "budget curve")[1]

    def test_a_radius_that_is_off_by_a_millionth(self, path: Path) -> None:
        def nudge(facts: Facts) -> None:
            certificate(facts)["covering_radius"]["99"] *= 1 - 1e-6

        rewrite(path, nudge)
        assert "the 99 % radius must be" in message(verify(path), "covering radii")

    def test_a_bound_that_is_too_good(self, path: Path) -> None:
        def raise_bound(facts: Facts) -> None:
            found = certificate(facts)
            found["lower_bound"] *= 1.5
            found["ratio"] = found["radius"] / found["lower_bound"]

        rewrite(path, raise_bound)
        assert "the certificate claims" in message(verify(path), "lower bound and ratio")

    def test_a_ratio_that_is_not_the_quotient(self, path: Path) -> None:
        rewrite(path, lambda facts: certificate(facts).update(ratio=1.2))
        assert "the certificate claims 1.2" in message(verify(path), "lower bound and ratio")

    def test_a_swapped_row(self, path: Path) -> None:
        """Another tile in the place of a pick: digest, radii and distances notice."""
        rewrite(path, change_table=lambda table: replace_rows(table, 7, tile_id="123"))
        report = verify(path)
        failed = report.named(Status.FAILED)
        assert {"selection digest", "budget curve", "packing"} <= set(failed)
        assert "ids, clusters and weights give" in outcome(report, "selection digest")[1]

    def test_two_rows_in_each_others_place(self, path: Path) -> None:
        def swap(table: pa.Table) -> pa.Table:
            ids = table["tile_id"].to_pylist()
            first = replace_rows(table, 3, tile_id=ids[4])
            return replace_rows(first, 4, tile_id=ids[3])

        rewrite(path, change_table=swap)
        failed = ["selection digest", "budget curve", "distances", "pick order"]
        assert verify(path).named(Status.FAILED) == failed

    def test_a_repeated_id(self, path: Path) -> None:
        def repeat(table: pa.Table) -> pa.Table:
            return replace_rows(table, 5, tile_id=table["tile_id"][4].as_py())

        rewrite(path, change_table=repeat)
        report = verify(path)
        assert "repeats" in outcome(report, "unique tile ids")[1]
        assert outcome(report, "packing") == (
            Status.FAILED,
            "must name distinct tiles; one repeats",
        )

    def test_a_missing_row(self, path: Path) -> None:
        rewrite(path, change_table=lambda table: table.slice(0, BUDGET - 1))
        report = verify(path)
        assert "must be 20 as the footer says; the table has 19" in outcome(report, "row count")[1]
        assert "it is of 20" in outcome(report, "certificate")[1]
        assert outcome(report, "covering radii")[0] is Status.SKIPPED

    def test_ranks_and_weights(self, path: Path) -> None:
        rewrite(path, change_table=lambda table: replace_rows(table, 2, rank=9, weight=-1.0))
        report = verify(path)
        assert outcome(report, "ranks")[1] == "must count rows from 0; row 2 has rank 9"
        assert "finite and above 0" in outcome(report, "weights")[1]
        assert outcome(report, "selection digest")[0] is Status.FAILED

    def test_a_distance_that_rises(self, path: Path) -> None:
        rewrite(path, change_table=lambda table: replace_rows(table, 9, distance=99.0))
        report = verify(path)
        assert "rank 9 has 99.0 after" in outcome(report, "picked distances")[1]
        assert "the table says 99.0" in outcome(report, "budget curve")[1]

    def test_a_curve_that_is_too_good(self, path: Path) -> None:
        def improve(facts: Facts) -> None:
            certificate(facts)["budget_curve"][4][1:] = [0.01, 0.005]

        rewrite(path, improve)
        report = verify(path)
        assert report.named(Status.FAILED) == ["picked distances", "budget curve"]
        assert "5 picks must have the radius" in outcome(report, "budget curve")[1]

    def test_a_wrong_farthest_tile(self, path: Path) -> None:
        def rename(facts: Facts) -> None:
            certificate(facts)["packing"]["farthest_tile_id"] = "nowhere"

        rewrite(path, rename)
        assert "'nowhere' is not" in message(verify(path), "packing")

    def test_another_schema_version(self, path: Path) -> None:
        rewrite(path, lambda facts: facts.update(schema_version=2))
        assert message(verify(path), "schema version") == "must be 1; got 2"

    def test_a_lost_column(self, path: Path) -> None:
        rewrite(path, change_table=lambda table: table.drop_columns(["rank"]))
        assert "rank (int64) is not there" in message(verify(path), "columns")

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda c: c.pop("lower_bound"), "must have the key 'lower_bound'"),
            (lambda c: c.update(radius=-1), "radius must be a finite number >= 0; got -1"),
            (lambda c: c.update(radius="x"), "radius must be a finite number >= 0; got 'x'"),
            (lambda c: c.update(radius=10**400), "radius must be a finite number >= 0; got 1000"),
            (lambda c: c.update(ratio=True), "ratio must be a finite number >= 0; got True"),
            (lambda c: c.update(factor="2"), "factor must be a finite number >= 0; got '2'"),
            (lambda c: c.update(num_outliers=False), "num_outliers must be a whole number"),
            (lambda c: c.update(given=3), "given must be text; got 3"),
            (lambda c: c.update(covering_radius=[1]), "covering_radius must be an object"),
            (lambda c: c["covering_radius"].pop("99"), "the key 'covering_radius.99'"),
            (lambda c: c["packing"].update(witness=[]), "packing.witness must be text; got []"),
            (lambda c: c["packing"].update(farthest_tile_id=7), "packing.farthest_tile_id must be"),
            (lambda c: c["packing"].update(num_points="x"), "packing.num_points must be a whole"),
            (lambda c: c["packing"].update(file="x"), "packing.file must be an object; got str"),
            (lambda c: c["packing"].update(file={"name": "x"}), "the key 'packing.file.sha256'"),
            (
                lambda c: c["packing"].update(file={"name": "x", "sha256": "", "rows": "x"}),
                "packing.file.rows must be a whole number >= 0; got 'x'",
            ),
            (lambda c: c.update(budget_curve=5), "budget_curve must be a list; got 5"),
            (lambda c: c["budget_curve"].append(1), "budget_curve[20] must be picks, radius"),
            (lambda c: c["budget_curve"][3].pop(), "budget_curve[3] must be picks, radius"),
            (
                lambda c: c["budget_curve"][3].__setitem__(1, None),
                "budget_curve[3] must be a finite number >= 0; got None",
            ),
            (lambda c: c.update(packing=None), "packing must be an object; got NoneType"),
            (lambda c: c.update(num_picks=1.5), "num_picks must be a whole number"),
            (lambda c: c.update(num_included=99), "num_included <= num_picks"),
            (lambda c: c["packing"].update(witness="me"), "one of picks, table, none; got 'me'"),
            (lambda c: c["budget_curve"].pop(), "must rise from at least 1 picks to 20"),
        ],
    )
    def test_a_malformed_certificate(
        self, path: Path, change: Callable[[Facts], object], problem: str
    ) -> None:
        rewrite(path, lambda facts: change(certificate(facts)))
        assert problem in message(verify(path), "certificate")

    def test_no_certificate(self, path: Path) -> None:
        rewrite(path, lambda facts: facts.pop("certificate"))
        report = verify(path)
        assert not report.verified
        assert message(report, "certificate") == "the footer must have the key 'certificate'"
        assert outcome(report, "tiles in the embeddings")[0] is Status.PASSED

    def test_no_digest(self, path: Path) -> None:
        rewrite(path, lambda facts: facts.pop("selection_fingerprint"))
        assert "'selection_fingerprint'" in message(verify(path), "selection digest")

    def test_other_words_for_the_problem(self, path: Path) -> None:
        words = "least radius of any 20 of 3000 rows"
        rewrite(path, lambda facts: certificate(facts).update(given=words))
        assert message(verify(path), "problem") == (
            f"given must be 'least radius of any 20 of 300 rows', as the numbers say; the "
            f"certificate has {words!r}"
        )

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"config": "x"}, "config must be an object; got 'x'"),
            ({"config": {"embedding": 1}}, "config.embedding must be an object; got 1"),
            ({"config": {"selection": []}}, "config.selection must be an object; got []"),
            ({"config": {"selection": {"strategy": 1}}}, "config.selection.strategy must be text"),
            ({"embeddings": 5}, "embeddings must be text; got 5"),
            ({"fallback": "random"}, "fallback must be an object; got 'random'"),
            ({"encoder_fingerprint": ["e"]}, "encoder_fingerprint must be text; got ['e']"),
        ],
    )
    def test_a_malformed_footer(self, path: Path, change: Facts, problem: str) -> None:
        rewrite(path, lambda facts: facts.update(change))
        assert problem in message(verify(path), "footer")


def name_strategy(path: Path, stated: str | None, reason: str, factor: float | None) -> None:
    """Let the footer and all reasons name a strategy, with its weights, and a factor."""
    table = read_table(Store(), str(path))
    count = table.num_rows
    sampled = not reason.startswith(("farthest-point", "composable"))
    weights = pa.array([300 / count if sampled else 1.0] * count)
    table = table.set_column(table.column_names.index("weight"), "weight", weights)

    def change(facts: Facts) -> None:
        facts["config"]["selection"] = {"strategy": stated}
        facts["selection_fingerprint"] = selection_digest(table)
        certificate(facts)["factor"] = factor

    def rename(_: pa.Table) -> pa.Table:
        place = table.column_names.index("reason")
        return table.set_column(place, "reason", pa.array([reason] * count))

    rewrite(path, change, rename)


class TestStrategy:
    @pytest.mark.parametrize(
        ("strategy", "factor", "problem"),
        [
            ("random", 0.5, "must be at least 1, as no radius is below the optimum; got 0.5"),
            ("random", 2.0, "must be null, as random guarantees none"),
            ("per-cluster", 2.0, "must be null, as per-cluster guarantees none"),
            ("hybrid", 2.0, "must be null, as hybrid guarantees none"),
            ("composable", None, "must be from 2 to 4 for composable; the certificate claims None"),
            ("composable", 1.5, "must be from 2 to 4 for composable"),
            ("composable", 4.5, "must be from 2 to 4 for composable"),
            ("composable-epsilon", 1.5, "must be at least 2 for composable-epsilon"),
        ],
    )
    def test_a_factor_that_it_cannot_guarantee(
        self, tmp_path: Path, strategy: str, factor: float | None, problem: str
    ) -> None:
        path, _ = write_certified(tmp_path, "random")
        for stated in (strategy, None):
            name_strategy(path, stated, strategy, factor)
            status, said = outcome(verify(path), "factor")
            assert status is Status.FAILED
            assert problem in said

    @pytest.mark.parametrize("factor", [None, 1.0, 3.0])
    def test_farthest_point_guarantees_two(self, tmp_path: Path, factor: float | None) -> None:
        path, _ = write_certified(tmp_path)
        name_strategy(path, "farthest-point", "farthest-point", factor)
        assert "must be 2 for farthest-point" in message(verify(path), "factor")

    def test_a_factor_that_it_can_guarantee(self, tmp_path: Path) -> None:
        path, _ = write_certified(tmp_path, "random")
        name_strategy(path, "random", "random", None)
        assert verify(path).verified
        name_strategy(path, "composable", "composable", 2.0)
        assert "is not decidable from a lower bound" in outcome(verify(path), "factor")[1]

    def test_hybrid_with_global_picks_only(self, tmp_path: Path) -> None:
        path, _ = write_certified(tmp_path)
        name_strategy(path, "hybrid", "farthest-point", 2.0)
        assert verify(path).verified

    @pytest.mark.parametrize("stated", ["farthest-point", "hybrid", None])
    def test_farthest_point_without_a_curve(self, tmp_path: Path, stated: str | None) -> None:
        path, _ = write_certified(tmp_path)
        name_strategy(path, stated, "farthest-point", 2.0)
        rewrite(path, lambda facts: certificate(facts).update(budget_curve=[]))
        assert "must have a budget curve" in message(verify(path), "picked distances")

    def test_reasons_of_another(self, tmp_path: Path) -> None:
        path, _ = write_certified(tmp_path, "random")
        name_strategy(path, "per-cluster", "random", None)
        assert "of per-cluster, as the footer says; they are of random" in message(
            verify(path), "strategy"
        )
        name_strategy(path, "best", "best", None)
        assert "must be one of random, farthest-point" in message(verify(path), "strategy")

    def test_a_fallback(self, tmp_path: Path) -> None:
        path, _ = write_certified(tmp_path, "random")
        name_strategy(path, "per-cluster", "random:fallback", None)
        problem = "every reason must end with :fallback where the footer has a fallback"
        assert problem in message(verify(path), "strategy")
        rewrite(path, lambda facts: facts.update(fallback={"strategy": "random"}))
        assert verify(path).verified
        name_strategy(path, "per-cluster", "random", None)
        assert f"{problem}, and none elsewhere; 0 of 20 do" in message(verify(path), "strategy")


class TestPackingTable:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_certified(tmp_path, "random")[0]

    def table(self, path: Path) -> Path:
        (found,) = path.parent.glob("packing-*.parquet")
        return found

    def replace(self, path: Path, ids: list[str]) -> None:
        """Write another packing, and name it in the footer as if it were the first."""
        table = self.table(path)
        record = write_table(Store(), str(table), pa.table({"tile_id": ids}))

        def name(facts: Facts) -> None:
            file = {"sha256": record.sha256, "rows": len(ids)}
            certificate(facts)["packing"]["file"].update(file)

        rewrite(path, name)

    def test_a_close_pair(self, path: Path) -> None:
        ids = read_table(Store(), str(self.table(path)))["tile_id"].to_pylist()
        others = [name for name in made_embeddings()[0].tolist() if name not in ids]
        self.replace(path, [*ids[:-1], others[0]])
        assert f"{others[0]!r} is " in message(verify(path), "packing")

    def test_a_row_twice(self, path: Path) -> None:
        ids = read_table(Store(), str(self.table(path)))["tile_id"].to_pylist()
        self.replace(path, [*ids[:-1], ids[0]])
        assert "one repeats" in message(verify(path), "packing")

    def test_too_few_rows(self, path: Path) -> None:
        ids = read_table(Store(), str(self.table(path)))["tile_id"].to_pylist()
        self.replace(path, ids[:-1])
        assert "must have 21 rows; the certificate claims 21, and 20" in message(
            verify(path), "packing"
        )

    def test_fewer_rows_than_outliers_need(self, tmp_path: Path) -> None:
        path, _ = write_certified(tmp_path / "outliers", "outliers")

        def forget(facts: Facts) -> None:
            certificate(facts)["num_outliers"] += 1

        rewrite(path, forget)
        report = verify(path)
        assert "must have 29 rows" in outcome(report, "packing")[1]
        assert "optimised radius must be" in outcome(report, "covering radii")[1]

    def test_missing_and_damaged(self, path: Path) -> None:
        table = self.table(path)
        table.write_bytes(table.read_bytes()[:-1])
        assert "must have the sha256" in message(verify(path), "packing")
        table.unlink()
        assert "there is no such file" in message(verify(path), "packing")

    @pytest.mark.parametrize("name", ["../other.parquet", "", "..", "a\0b", "x" * 300])
    def test_a_name_outside_the_folder(self, path: Path, name: str) -> None:
        rewrite(path, lambda facts: certificate(facts)["packing"]["file"].update(name=name))
        assert "in the manifest's folder" in message(verify(path), "packing")

    def test_ids_that_are_lists(self, path: Path) -> None:
        table = self.table(path)
        ids = pa.table({"tile_id": [["a"], ["b", "c"]]})
        record = write_table(Store(), str(table), ids)
        file = {"sha256": record.sha256, "rows": 2}
        rewrite(path, lambda facts: certificate(facts)["packing"]["file"].update(file))
        assert "packing.file must be a table of tile ids" in message(verify(path), "packing")


class TestEmbeddings:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        return write_certified(tmp_path)

    def test_without_any(self, files: tuple[Path, Path]) -> None:
        path, _ = files
        rewrite(path, lambda facts: facts.pop("embeddings"))
        report = verify(path)
        assert report.named(Status.FAILED) == []
        assert (report.verified, report.recomputed, report.lacks_embeddings) == (False, False, True)
        skipped = {"embeddings", "tiles in the embeddings", "covering radii", "packing"}
        assert skipped <= set(report.named(Status.SKIPPED))
        assert "--embeddings" in outcome(report, "covering radii")[1]
        assert outcome(report, "picked distances")[0] is Status.PASSED

    @pytest.mark.parametrize("uri", [None, "elsewhere/vectors.npy", "s3:/bucket/x", "a\0b"])
    def test_that_cannot_be_found(self, files: tuple[Path, Path], uri: str | None) -> None:
        path, embeddings = files
        embeddings.rename(embeddings.with_name("moved.parquet"))
        if uri is not None:
            rewrite(path, lambda facts: facts.update(embeddings=uri))
        with pytest.raises(DataError, match=r"the footer names must be found; .*--embeddings"):
            verify(path)
        assert verify(path, embeddings=str(embeddings.with_name("moved.parquet"))).verified

    def test_in_other_files_and_another_order(self, files: tuple[Path, Path]) -> None:
        path, embeddings = files
        table = pq.read_table(embeddings).rename_columns(["name", "vector"])
        folder = path.parent / "parts"
        folder.mkdir()
        order = pa.array(np.random.default_rng(0).permutation(table.num_rows))
        pq.write_table(table.take(order).slice(0, 100), folder / "b.parquet")
        pq.write_table(table.take(order).slice(100), folder / "a.parquet")
        columns = Columns("name", "vector")
        assert verify(path, embeddings=str(folder), columns=columns).verified

    def test_of_another_archive(self, files: tuple[Path, Path]) -> None:
        path, embeddings = files
        table = pq.read_table(embeddings)
        moved = table.set_column(1, "embedding", pc.take(table["embedding"], pa.array([0] * 300)))
        pq.write_table(moved, embeddings)
        report = verify(path)
        assert "must have the fingerprint 300-" in outcome(report, "embeddings")[1]
        assert outcome(report, "covering radii")[0] is Status.FAILED

    def test_with_rows_left_out(self, files: tuple[Path, Path]) -> None:
        """More rows, or fewer, than were selected from: the radii are of another problem."""
        path, embeddings = files
        picks = pq.read_table(path)["tile_id"].to_pylist()
        table = pq.read_table(embeddings)
        kept = table.filter(pc.invert(pc.is_in(table["tile_id"], pa.array([picks[3]]))))
        pq.write_table(kept, embeddings)
        report = verify(path)
        assert (
            f"{picks[3]!r} is not there (1 are not)"
            in (outcome(report, "tiles in the embeddings")[1])
        )
        assert outcome(report, "covering radii")[0] is Status.SKIPPED

    def test_with_a_row_twice(self, files: tuple[Path, Path]) -> None:
        path, embeddings = files
        table = pq.read_table(embeddings)
        folder = path.parent / "parts"
        folder.mkdir()
        pq.write_table(table, folder / "a.parquet")
        pq.write_table(table.slice(0, 1), folder / "b.parquet")
        report = verify(path, embeddings=str(folder))
        assert "'000' repeats" in outcome(report, "tiles in the embeddings")[1]

    def test_by_another_encoder(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        path, embeddings = files

        def by_encoder(facts: Facts) -> None:
            del facts["embeddings_fingerprint"]
            facts["encoder_fingerprint"] = "e1"

        rewrite(path, by_encoder)
        assert (
            outcome(verify(path), "embeddings")[0] is Status.SKIPPED
        )  # plain Parquet says nothing
        ids, vectors = read_vectors(Store(), str(embeddings))
        for encoder, status in (("e1", Status.PASSED), ("e2", Status.FAILED)):
            uri = str(tmp_path / encoder / "s.parquet")
            shard = write_embeddings(
                Store(), uri, shard_id="s", tile_ids=ids, embeddings=vectors,
                encoder_fingerprint=encoder,
            )  # fmt: skip
            for given in (uri, [shard]):
                report = verify(path, embeddings=given)
                assert outcome(report, "embeddings")[0] is status
                assert outcome(report, "covering radii")[0] is Status.PASSED

    def test_unreadable(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        path, embeddings = files
        with pytest.raises(DataError, match="found none of these"):
            verify(path, embeddings=str(tmp_path / "nothing"))
        ids, vectors = read_vectors(Store(), str(embeddings))
        vectors[8] = np.nan
        np.save(tmp_path / "v.npy", vectors)
        with pytest.raises(DataError, match=r"tile 8 in .*v\.npy is not"):
            verify(path, embeddings=str(tmp_path / "v.npy"))
        write_table(Store(), str(path), pa.table({"tile_id": ids.tolist()}))
        with pytest.raises(DataError, match="must be a manifest: its Parquet footer"):
            verify(path)
        path.write_bytes(b"no Parquet")
        with pytest.raises(DataError, match="must be a complete Parquet file"):
            verify(path)


class TestInARun:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Path:
        """A run's folder with one committed round; return the manifest in it."""
        store, ledger = Store(), Ledger(Store(), str(tmp_path / "run"))
        lineage: Facts = {
            "config": {"embedding": {"normalize": True}},
            "encoder_fingerprint": "e1",
            "clustering_fingerprint": "c1",
            "embeddings": None,
            "embeddings_fingerprint": None,
        }
        publish = tmp_path / "run" / "round-000" / "publish"
        path, embeddings = write_certified(publish, "random", facts=lineage)
        ids, vectors = read_vectors(store, str(embeddings))
        embeddings.unlink()
        shards = [
            write_embeddings(
                store,
                ledger.absolute(f"round-000/embed/{part}.parquet"),
                shard_id=str(part),
                tile_ids=ids[part::2],
                embeddings=vectors[part::2],
                encoder_fingerprint="e1",
            )
            for part in (0, 1)
        ]
        ledger.open_run({"config": {}}, "0")
        self.commit(ledger, path, shards)
        return path

    def commit(self, ledger: Ledger, path: Path, shards: list[EmbeddingShard]) -> None:
        digest = json.loads(pq.read_schema(path).metadata[b"balancer"])["selection_fingerprint"]
        ledger.commit(
            "round-000",
            {
                "encoder": {"fingerprint": "e1"},
                "clustering": {"inputs": "c1"},
                "embeddings": [
                    {
                        "shard_id": shard.shard_id,
                        "path": ledger.relative(shard.uri),
                        "rows": shard.num_rows,
                        "dim": shard.dim,
                        "sha256": shard.sha256,
                    }
                    for shard in shards
                ],
                "manifest": {
                    "sha256": sha256(path),
                    "selection_fingerprint": digest,
                },
            },
        )

    def test_finds_its_embeddings(self, run: Path) -> None:
        report = verify(run)
        assert report.verified
        assert report.named(Status.SKIPPED) == [
            "factor",
            "picked distances",
            "budget",
            "budget curve",
        ]
        assert "300 rows of the run's round-000, by encoder e1" in outcome(report, "embeddings")[1]

    def test_the_copy_at_the_top_finds_its_packing(self, run: Path) -> None:
        copy = run.parents[2] / "manifest.parquet"
        copy.write_bytes(run.read_bytes())
        report = verify(copy)
        assert report.verified
        assert outcome(report, "packing")[0] is Status.PASSED
        assert outcome(report, "file digest")[0] is Status.PASSED

    def test_a_changed_file_and_footer(self, run: Path) -> None:
        rewrite(run, lambda facts: facts.update(encoder_fingerprint="e2", note="x"))
        report = verify(run)
        assert report.named(Status.FAILED) == ["file digest", "run record", "embeddings"]
        assert "encoder_fingerprint: e2 instead of e1" in outcome(report, "run record")[1]
        assert "the file was changed" in outcome(report, "file digest")[1]

    def test_an_unfinished_round(self, run: Path) -> None:
        (run.parents[1] / "COMMIT.json").unlink()
        report = verify(run)
        assert report.named(Status.FAILED) == []
        assert not report.verified
        assert outcome(report, "file digest") == (Status.SKIPPED, "round-000 is not committed")
        assert outcome(report, "covering radii")[0] is Status.SKIPPED

    def test_embeddings_that_were_deleted(self, run: Path) -> None:
        (run.parents[1] / "embed" / "1.parquet").unlink()
        with pytest.raises(
            DataError, match=r"the run's round-000 names must be found; .*1\.parquet"
        ):
            verify(run)

    def test_embeddings_that_were_changed(self, run: Path) -> None:
        shard = run.parents[1] / "embed" / "1.parquet"
        shard.write_bytes(shard.read_bytes()[:-1])
        with pytest.raises(DataError, match="must have the sha256"):
            verify(run)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_report_as_json(tmp_path: Path) -> None:
    path, _ = write_certified(tmp_path)
    facts = json.loads(json.dumps(verify(path).to_json()))
    assert (facts["verified"], facts["manifest"]) == (True, str(path))
    assert facts["certificate_recomputed"] is True
    assert {check["status"] for check in facts["checks"]} == {"passed", "skipped"}
