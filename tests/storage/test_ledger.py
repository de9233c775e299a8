from __future__ import annotations

import pytest

from balancer.errors import ConfigError, DataError
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record, StageLedger, new_attempt
from balancer.storage.tables import FileRecord

SPEC = {"seed": 1, "selection": {"budget": 10}}


@pytest.fixture
def ledger(store: Store, root: str) -> Ledger:
    return Ledger(store, root)


def finish(stage: StageLedger, key: str, *, attempt: str = "", inputs: str = "in") -> Record:
    """Do one key: write data, then the record."""
    attempt = attempt or new_attempt()
    uri = stage.data_uri(key, attempt, "parquet")
    data = f"{key} by {attempt}".encode()
    stage.run.store.write_bytes(uri, data)
    file = FileRecord(uri, num_rows=3, num_bytes=len(data), sha256="0" * 64)
    return stage.record(key, attempt=attempt, inputs=inputs, file=file, dim=8)


def test_second_run_does_only_what_is_missing(ledger: Ledger) -> None:
    keys = ["s1", "s2", "s3"]
    ledger.open_run(SPEC, "0.1.0")
    stage = ledger.stage("round-000/embed")
    for key in keys[:2]:
        finish(stage, key)

    again = Ledger(Store(), ledger.run_uri)
    again.open_run(SPEC, "0.1.0")
    stage = again.stage("round-000/embed")
    done = stage.completed_all("in")
    assert sorted(done) == ["s1", "s2"]
    assert done["s1"] == stage.completed("s1", "in")
    assert stage.completed("s3", "in") is None
    assert done["s1"]["dim"] == 8
    assert stage.file(done["s1"]).uri == stage.data_uri("s1", done["s1"]["attempt"], "parquet")
    finish(stage, "s3")
    assert sorted(stage.completed_all(dict.fromkeys(keys, "in"))) == keys


def test_a_changed_spec_is_refused_with_the_difference(ledger: Ledger) -> None:
    ledger.open_run(SPEC, "0.1.0")
    assert ledger.open_run(SPEC, "0.1.0")["spec"] == SPEC
    changed = {"seed": 1, "selection": {"budget": 20}}
    with pytest.raises(ConfigError, match=r"selection\.budget: 10 -> 20\n.*another --out"):
        ledger.open_run(changed, "0.1.0")
    with pytest.raises(ConfigError, match=r'code_version: "0\.1\.0" -> "0\.2\.0"'):
        ledger.open_run(SPEC, "0.2.0")


def test_other_inputs_stop_the_run(ledger: Ledger) -> None:
    stage = ledger.stage("embed")
    finish(stage, "s1", inputs="in")
    for call in (
        lambda: stage.completed("s1", "other"),
        lambda: stage.completed_all("other"),
        lambda: finish(stage, "s1", inputs="other"),
    ):
        with pytest.raises(ConfigError, match=r"s1\.json was made from in"):
            call()


def test_the_first_of_two_writers_wins(ledger: Ledger) -> None:
    stage = ledger.stage("embed")
    first = finish(stage, "s1", attempt="aaa")
    second = finish(stage, "s1", attempt="bbb")
    assert first == second == stage.completed("s1", "in")
    assert first["path"] == "embed/s1.aaa.parquet"
    # The loser's data stay as an orphan that no record names.
    assert ledger.store.exists(stage.data_uri("s1", "bbb", "parquet"))


def test_a_commit_stands(ledger: Ledger) -> None:
    assert ledger.read_commit("round-000") is None
    payload = {"inputs": "in", "manifest": "round-000/manifest.aaa.parquet"}
    assert ledger.commit("round-000", payload) == payload
    late = ledger.commit("round-000", {"inputs": "in", "manifest": "other"})
    assert late == payload == ledger.read_commit("round-000")
    with pytest.raises(ConfigError, match="was made from in"):
        ledger.commit("round-000", {"inputs": "other"})


def test_a_lost_reply_is_recognised_by_its_attempt(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ledger.stage("embed")
    create = Store.create_exclusive

    def twice(self: Store, uri: str, data: bytes) -> None:
        create(self, uri, data)
        create(self, uri, data)

    monkeypatch.setattr(Store, "create_exclusive", twice)
    assert finish(stage, "s1", attempt="mine")["attempt"] == "mine"


def test_damaged_records_and_bad_names(ledger: Ledger) -> None:
    stage = ledger.stage("embed")
    ledger.store.write_bytes(ledger.absolute("embed/done/s1.json"), b"")
    with pytest.raises(DataError, match=r"s1\.json must hold a JSON object"):
        stage.completed("s1", "in")
    for key in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="A key must consist of"):
            stage.data_uri(key, "a", "b")
    with pytest.raises(ValueError, match="must lie under the run"):
        ledger.relative("/elsewhere/x")
