"""What a manifest's table, its footer and the records of its run say of each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from balancer.config import Strategy, Within
from balancer.storage.manifests import MANIFEST_SCHEMA
from balancer.verification.inputs import Run
from balancer.verification.report import Check, failed, passed, skipped

SCHEMA_VERSION = 1
FALLBACK = ":fallback"
STRATEGIES: tuple[str, ...] = get_args(Strategy)
_INSIDE = {
    "per-cluster": get_args(Within),
    "hierarchical": get_args(Within),
    "hybrid": ("per-cluster", "farthest-point"),
}
"""What reasons of a strategy say after the colon; those of the others have none."""
_TEXTS = (
    "embeddings",
    "embeddings_fingerprint",
    "encoder_fingerprint",
    "id_column",
    "vector_column",
    "config.selection.strategy",
    "fallback.strategy",
    "config.selection.include",
    "config.selection.exclude",
    "config.selection.quality_column",
)
_OBJECTS = ("fallback", "config", "config.embedding", "config.selection", "excluded")


def check_footer(facts: Mapping[str, Any]) -> Check:
    """Check the types of what is read of the footer, the certificate apart; null is absent."""
    name = "footer"
    for key in (*_OBJECTS, *_TEXTS):
        value = _inside(facts, key)
        kind, wanted = (Mapping, "an object") if key in _OBJECTS else (str, "text")
        if value is not None and not isinstance(value, kind):
            return failed(name, f"{key} must be {wanted}; got {value!r}")
    return passed(name, f"{len(facts)} keys")


def check_strategy(table: pa.Table, facts: Mapping[str, Any]) -> tuple[str | None, Check]:
    """Check the reasons of the picks against the footer's strategy; return the strategy.

    Hybrid with nothing but global picks is farthest-point, and its reasons say so. Included tiles
    have a reason of their own, whatever the strategy.
    A footer with a fallback names the strategy there, and the other reasons end with `:fallback`.
    """
    name, stated = "strategy", _inside(facts, "config.selection.strategy")
    fallback = _inside(facts, "fallback.strategy")
    own = [str(reason) for reason in table["reason"].to_pylist() if reason != "include"]
    ends = [reason.endswith(FALLBACK) for reason in own]
    if (fallback is not None and not all(ends)) or (fallback is None and any(ends)):
        return fallback or stated, failed(
            name, f"every reason must end with {FALLBACK} where the footer has a fallback, and "
                  f"none elsewhere; {sum(ends)} of {len(ends)} do"
        )  # fmt: skip
    stated = fallback or stated
    reasons = {str(reason).partition(":")[0] for reason in table["reason"].to_pylist()}
    reasons -= {"include"}
    only = next(iter(reasons)) if len(reasons) == 1 else None
    rules = _INSIDE.get(str(only), ())
    known = {f"{only}:{rule}" for rule in rules} or {str(only)}
    strange = {reason.removesuffix(FALLBACK) for reason in own} - known
    if strange and only in STRATEGIES:
        return fallback or stated or only, failed(
            name, f"reasons of {only} must be {' or '.join(sorted(known))}; one is "
                  f"{min(strange)!r}"
        )  # fmt: skip
    if stated is None and only not in STRATEGIES:
        return None, skipped(name, "the footer names none, nor do the reasons")
    if stated is None or (stated == "hybrid" and only == "farthest-point"):
        return only, passed(name, f"{only}, by the reasons")
    if stated not in STRATEGIES:
        return stated, failed(name, f"must be one of {', '.join(STRATEGIES)}; got {stated!r}")
    if only != stated and reasons:
        said = ", ".join(sorted(reasons))
        return stated, failed(name, f"every reason must be of {stated}, as the footer says; "
                                    f"they are of {said}")  # fmt: skip
    return stated, passed(name, stated)


def check_columns(table: pa.Table) -> Check:
    """Check that the table begins with a manifest's columns, of their types."""
    name, count = "columns", len(MANIFEST_SCHEMA)
    found = pa.schema(list(table.schema.remove_metadata())[:count])
    if found != MANIFEST_SCHEMA:
        wrong = next(
            (f for f, g in zip_longest(MANIFEST_SCHEMA, found) if f != g), MANIFEST_SCHEMA[0]
        )
        return failed(
            name, f"must begin with those of a manifest; {wrong.name} ({wrong.type}) is not there"
        )
    nulls = [c for c in ("tile_id", "rank", "cluster", "weight") if table[c].null_count]
    if nulls:
        return failed(name, f"{', '.join(nulls)} must have no nulls")
    return passed(name, f"{table.num_columns} columns")


def check_table(table: pa.Table, facts: Mapping[str, Any]) -> list[Check]:
    """Check ids, ranks, count and weights of a table with a manifest's columns."""
    return [
        _check_version(facts),
        _check_unique(table),
        _check_ranks(table),
        _check_count(table, facts),
        _check_weights(table),
    ]


def check_digest(table: pa.Table, facts: Mapping[str, Any], run: Run | None) -> Check:
    """Check the digest of ids in rank order, clusters and weights."""
    name = "selection digest"
    stated = [facts.get("selection_fingerprint")]
    if stated == [None]:
        return failed(name, "the footer must have the key 'selection_fingerprint'")
    if run is not None and run.commit is not None:
        stated.append(run.commit["manifest"]["selection_fingerprint"])
    found = selection_digest(table)
    for digest in stated:
        if found != digest:
            return failed(name, f"must be {digest}; ids, clusters and weights give {found}")
    return passed(name, found)


def check_run(manifest_bytes: bytes, facts: Mapping[str, Any], run: Run | None) -> list[Check]:
    """Check the file and its footer against the commit of its round."""
    names = ("file digest", "run record")
    if run is None:
        return [skipped(name, "the manifest lies in no run folder") for name in names]
    if run.commit is None:
        return [skipped(name, f"{run.round_name} is not committed") for name in names]
    stated = run.commit["manifest"]["sha256"]
    found = hashlib.sha256(manifest_bytes).hexdigest()
    checks = [
        passed(names[0], f"sha256 {found[:16]}...")
        if found == stated
        else failed(
            names[0],
            f"the sha256 must be {stated[:16]}... as {run.round_name} recorded it; got "
            f"{found[:16]}...: the file was changed",
        )
    ]
    pairs = {
        "encoder_fingerprint": run.commit["encoder"]["fingerprint"],
        "clustering_fingerprint": run.commit["clustering"]["inputs"],
    }
    wrong = [key for key, value in pairs.items() if facts.get(key) != value]
    if wrong:
        said = "; ".join(f"{key}: {facts.get(key)} instead of {pairs[key]}" for key in wrong)
        checks.append(failed(names[1], f"the footer must name what {run.round_name} used; {said}"))
    else:
        checks.append(passed(names[1], f"encoder and clustering of {run.round_name}"))
    return checks


def selection_digest(table: pa.Table) -> str:
    """Digest ids in row order, separated by 0x1f, then clusters, then weights (little-endian)."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\x1f".join(table["tile_id"].to_pylist()).encode())
    digest.update(np.asarray(table["cluster"].to_pylist(), "<i8").tobytes())
    digest.update(np.asarray(table["weight"].to_pylist(), "<f8").tobytes())
    return digest.hexdigest()


def _inside(facts: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a dotted key; None where it or a section around it is absent."""
    value: Any = facts
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check_version(facts: Mapping[str, Any]) -> Check:
    name, version = "schema version", facts.get("schema_version")
    if version != SCHEMA_VERSION:
        return failed(name, f"must be {SCHEMA_VERSION}; got {version}")
    return passed(name, str(version))


def _check_unique(table: pa.Table) -> Check:
    name, ids = "unique tile ids", table["tile_id"].to_pylist()
    seen: set[str] = set()
    for tile_id in ids:
        if tile_id in seen:
            return failed(name, f"must name each tile once; {tile_id!r} repeats")
        seen.add(tile_id)
    return passed(name, f"{len(ids)} tiles")


def _check_ranks(table: pa.Table) -> Check:
    name, ranks = "ranks", table["rank"].to_pylist()
    wrong = next((row for row, rank in enumerate(ranks) if rank != row), None)
    if wrong is not None:
        return failed(name, f"must count rows from 0; row {wrong} has rank {ranks[wrong]}")
    return passed(name, f"0 to {len(ranks) - 1}")


def _check_count(table: pa.Table, facts: Mapping[str, Any]) -> Check:
    name, stated = "row count", facts.get("num_rows")
    if stated is None:
        return skipped(name, "the footer has none")
    if stated != table.num_rows:
        return failed(name, f"must be {stated} as the footer says; the table has {table.num_rows}")
    return passed(name, str(stated))


def _check_weights(table: pa.Table) -> Check:
    name, weights = "weights", np.asarray(table["weight"].to_pylist(), dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    if len(wrong):
        tile_id = table["tile_id"][int(wrong[0])].as_py()
        return failed(
            name, f"must be finite and above 0; that of {tile_id!r} is {weights[wrong[0]]}"
        )
    return passed(name, "finite and above 0")
