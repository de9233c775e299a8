"""The commit protocol: what a run has finished, as files that appear once and never change.

    <run>/spec.json                           what the run is; create-only
    <run>/<stage>/<key>.<attempt>.<suffix>    data; of a lost attempt nobody reads it
    <run>/<stage>/done/<key>.json             completion record; create-only, written last
    <run>/<round or stage>/COMMIT.json        names the exact files of the result; create-only

Readers use only what a record names. Resuming is listing `done/` and doing the rest. Paths in
records are relative to the run, so that its folder can be moved.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balancer.config import config_difference
from balancer.errors import ConfigError, DataError
from balancer.storage.filesystem import Store
from balancer.storage.tables import FileRecord

Record = dict[str, Any]
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def new_attempt() -> str:
    """Return a token that tells this attempt from others; it never affects results."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Ledger:
    """The records of one run."""

    store: Store
    run_uri: str

    def open_run(
        self, spec: Mapping[str, Any], code_version: str, *, started: bool = True
    ) -> Record:
        """Start a run, or check that the existing one is the same.

        Args:
            spec: frozen configuration and input fingerprint, JSON-serialisable.
            code_version: of balancer; results may depend on it.
            started: whether anything is committed that another spec would spoil; if not, the new
                spec replaces the old one.

        Returns:
            The run's spec as stored.

        Raises:
            ConfigError: the run was started with another spec; lists the differences.
            StorageError: the store refuses or fails.
        """
        uri = self.absolute("spec.json")
        wanted: Record = json.loads(json.dumps({"code_version": code_version, "spec": spec}))
        found = _read_record(self.store, uri)
        if found is None:
            found = _create(self.store, uri, wanted)
        before, after = (
            {"code_version": r.get("code_version"), **r.get("spec", {})} for r in (found, wanted)
        )
        lines = config_difference(before, after)
        if lines and not started:
            text = json.dumps(wanted, sort_keys=True, indent=1) + "\n"
            self.store.write_bytes(uri, text.encode())
            return wanted
        if lines:
            raise ConfigError(
                f"The run {self.run_uri} must be continued as it was started; got\n  "
                + "\n  ".join(lines)
                + "\nRestore these, or start another run with another --out."
            )
        return found

    def stage(self, name: str) -> StageLedger:
        """Return the records of one stage, such as `round-000/embed`."""
        _check_name(name)
        return StageLedger(self, name)

    def commit(self, name: str, payload: Mapping[str, Any]) -> Record:
        """Write `<name>/COMMIT.json` once.

        Args:
            name: a round or stage.
            payload: names the exact files of the result; an `inputs` fingerprint in it is checked.

        Returns:
            The commit that stands: ours, or that of a writer who was first.

        Raises:
            ConfigError: the standing commit has another `inputs`.
            StorageError: the store refuses or fails.
        """
        _check_name(name)
        uri = self.absolute(f"{name}/COMMIT.json")
        standing = _create(self.store, uri, json.loads(json.dumps(payload)))
        _check_inputs(standing, payload.get("inputs"), uri)
        return standing

    def read_commit(self, name: str) -> Record | None:
        """Return what was committed for a round or stage; None if nothing was.

        Raises:
            DataError: the file is damaged.
            StorageError: the store refuses or fails.
        """
        _check_name(name)
        return _read_record(self.store, self.absolute(f"{name}/COMMIT.json"))

    def absolute(self, path: str) -> str:
        """Return the URI of a path in a record."""
        return self.store.join(self.run_uri, path)

    def relative(self, uri: str) -> str:
        """Return a URI under the run as the path that records hold.

        Raises:
            ValueError: the URI lies outside the run.
        """
        root = self.store.absolute(self.run_uri) + "/"
        full = self.store.absolute(uri)
        if not full.startswith(root):
            raise ValueError(f"Recorded files must lie under the run {self.run_uri}; got {uri}.")
        return full.removeprefix(root)


@dataclass(frozen=True, slots=True)
class StageLedger:
    """The completion records of one stage."""

    run: Ledger
    name: str

    def completed(self, key: str, inputs: str) -> Record | None:
        """Return the record of a finished key, or None.

        Args:
            key: what was done, such as a shard id.
            inputs: fingerprint of everything the result depends on.

        Raises:
            ConfigError: it was done from other inputs.
            DataError: the record is damaged.
            StorageError: the store refuses or fails.
        """
        uri = self._record_uri(key)
        record = _read_record(self.run.store, uri)
        if record is not None:
            _check_inputs(record, inputs, uri)
        return record

    def completed_all(self, inputs: str | Mapping[str, str]) -> dict[str, Record]:
        """Return the records of all finished keys.

        Args:
            inputs: the fingerprint of every key, or one for each key; keys it lacks are left out.

        Raises:
            ConfigError: a key was done from other inputs.
            DataError: a record is damaged.
            StorageError: the store refuses or fails.

        Cost: one listing, and one small read per record, 16 at once on S3.
        """
        store = self.run.store
        folder = self.run.absolute(f"{self.name}/done")
        uris = [f.uri for f in store.list_files(folder) if f.uri.endswith(".json")]
        answers = store.read_ranges([(uri, 0, None) for uri in uris])
        records = {}
        for uri, data in zip(uris, answers, strict=True):
            if data is None:
                continue
            key = uri.rpartition("/")[2].removesuffix(".json")
            record = _parse(data, uri)
            if not isinstance(inputs, str) and key not in inputs:
                continue
            _check_inputs(record, inputs if isinstance(inputs, str) else inputs[key], uri)
            records[key] = record
        return records

    def data_uri(self, key: str, attempt: str, suffix: str) -> str:
        """Return where an attempt writes its data: `<stage>/<key>.<attempt>.<suffix>`."""
        _check_key(key)
        return self.run.absolute(f"{self.name}/{key}.{attempt}.{suffix.lstrip('.')}")

    def record(
        self, key: str, *, attempt: str, inputs: str, file: FileRecord, **extra: object
    ) -> Record:
        """Record a finished key, after its data are written.

        Args:
            key: what was done.
            attempt: from `new_attempt`; tells a lost reply from another writer.
            inputs: fingerprint of everything the result depends on.
            file: the data.
            **extra: further JSON-serialisable facts.

        Returns:
            The record that stands: ours, or that of an attempt that was first, in which case our
            data are an orphan.

        Raises:
            ConfigError: the standing record has other inputs.
            StorageError: the store refuses or fails.
        """
        uri = self._record_uri(key)
        fields: Record = {
            **extra,
            "attempt": attempt,
            "inputs": inputs,
            "path": self.run.relative(file.uri),
            "rows": file.num_rows,
            "size": file.num_bytes,
            "sha256": file.sha256,
        }
        standing = _create(self.run.store, uri, json.loads(json.dumps(fields)))
        _check_inputs(standing, inputs, uri)
        return standing

    def file(self, record: Mapping[str, Any]) -> FileRecord:
        """Return the data that a record names, at their present place."""
        uri = self.run.absolute(record["path"])
        return FileRecord(uri, record["rows"], record["size"], record["sha256"])

    def _record_uri(self, key: str) -> str:
        _check_key(key)
        return self.run.absolute(f"{self.name}/done/{key}.json")


def _create(store: Store, uri: str, fields: Record) -> Record:
    text = json.dumps(fields, sort_keys=True, indent=1) + "\n"
    try:
        store.create_exclusive(uri, text.encode())
    except FileExistsError:
        standing = _read_record(store, uri)
        if standing is None:
            raise
        return standing
    return fields


def _read_record(store: Store, uri: str) -> Record | None:
    try:
        return _parse(store.read_bytes(uri), uri)
    except FileNotFoundError:
        return None


def _parse(data: bytes, uri: str) -> Record:
    try:
        record = json.loads(data)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DataError(
            f"{uri} must hold a JSON object; it is damaged ({len(data)} bytes). Delete it to have "
            f"that part made again."
        )
    return record


def _check_inputs(record: Mapping[str, Any], inputs: object, uri: str) -> None:
    if record.get("inputs") != inputs:
        raise ConfigError(
            f"A finished part must come from the inputs of this run, {inputs}; {uri} was made from "
            f"{record.get('inputs')}. The input or the configuration has changed: restore it, or "
            f"start another run with another --out."
        )


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"A key must consist of letters, digits, '.', '_' and '-'; got {key!r}.")


def _check_name(name: str) -> None:
    for part in name.split("/"):
        _check_key(part)
