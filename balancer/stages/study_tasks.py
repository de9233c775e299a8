"""Independent parts of a study on Ray, each kept as a Parquet file.

Killed and started again, a study computes what is missing. A part's key names everything it depends
on, so a study with more seeds, strategies or pools finds what it has, and a changed setting is
another part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from balancer.stages.progress import Reporter
from balancer.stages.tasks import run_tasks
from balancer.storage.ledger import Ledger, Record, new_attempt
from balancer.storage.tables import read_table, write_table


@dataclass(frozen=True, slots=True)
class StudyPart:
    """One part of a study.

    Attributes:
        key: digest of all that its result depends on.
        shared: names of the shared values that the function takes first.
        arguments: what it takes after them; small and picklable.
    """

    key: str
    shared: tuple[str, ...]
    arguments: tuple[Any, ...]


def run_study(
    ledger: Ledger,
    stage: str,
    function: Callable[..., pa.Table],
    parts: Sequence[StudyPart],
    *,
    shared: Mapping[str, Any],
    reporter: Reporter,
) -> pa.Table:
    """Compute the parts that have no record yet, and return the tables of all, in their order.

    Args:
        ledger: of the study.
        stage: name of the stage, such as `cells`.
        function: a pure module-level function of the shared values and the arguments.
        parts: with different keys.
        shared: values by name, such as arrays; each goes to Ray's object store once.
        reporter: shows progress.

    Raises:
        ValueError: a key twice, or a shared value that is missing.

    Cost: one Ray task of one CPU, one file and one record per part; every part's table in memory.
    """
    keys = [part.key for part in parts]
    if len(set(keys)) < len(keys):
        raise ValueError("Parts must have different keys; got a key twice. Remove the repetition.")
    unknown = {name for part in parts for name in part.shared} - set(shared)
    if unknown:
        raise ValueError(f"Shared values must be given for {sorted(unknown)}; got {list(shared)}.")
    inputs = {key: key for key in keys}
    done = ledger.stage(stage).completed_all(inputs)
    missing = [part for part in parts if part.key not in done]
    with reporter.task(stage, len(parts), "parts") as advance:
        advance(len(parts) - len(missing), "")
        wanted = {name for part in missing for name in part.shared}
        stored = {name: ray.put(shared[name]) for name in sorted(wanted)}
        arguments = [
            (ledger, stage, function, part.key, *(stored[name] for name in part.shared),
             *part.arguments)
            for part in missing
        ]  # fmt: skip
        for number, record in run_tasks(run_part, arguments):
            done[missing[number].key] = record
            advance(1, "")
    files = [(done[key], ledger.stage(stage).file(done[key])) for key in keys]
    tables = [read_table(ledger.store, file.uri, sha256=file.sha256) for _, file in files]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def run_part(
    ledger: Ledger,
    stage: str,
    function: Callable[..., pa.Table],
    key: str,
    *arguments: Any,  # noqa: ANN401 - what the function takes
) -> Record:
    """Compute one part, write its table, record it (runs on a worker)."""
    table = function(*arguments)
    attempt = new_attempt()
    place = ledger.stage(stage)
    file = write_table(ledger.store, place.data_uri(key, attempt, "parquet"), table)
    return place.record(key, attempt=attempt, inputs=key, file=file)
