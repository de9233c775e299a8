"""All checks of one manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.errors import DataError
from balancer.storage.certificates import CERTIFICATE_KEY
from balancer.storage.filesystem import Store
from balancer.storage.manifests import FOOTER_KEY
from balancer.storage.tables import read_table
from balancer.types import EmbeddingShard, FloatArray
from balancer.verification.cells import CELLS, check_cells, count_cells
from balancer.verification.certificate_checks import (
    check_curve,
    check_factor,
    check_picked_distances,
    check_problem,
    check_radii,
    check_ratio,
)
from balancer.verification.claims import Claims, parse_claims
from balancer.verification.column_checks import check_absent_distances, check_cluster_numbers
from balancer.verification.constraint_checks import (
    check_excluded,
    check_included,
    check_outliers,
    guarantee_of,
    load_excluded,
    outliers_of,
)
from balancer.verification.coreset_checks import check_coreset
from balancer.verification.distance_pass import Gathered, gather, measure
from balancer.verification.inputs import (
    Columns,
    Embeddings,
    Run,
    find_embeddings,
    find_run,
)
from balancer.verification.manifest_checks import (
    check_columns,
    check_digest,
    check_footer,
    check_run,
    check_strategy,
    check_table,
)
from balancer.verification.order_checks import check_order
from balancer.verification.report import (
    IN_EMBEDDINGS,
    RECOMPUTED,
    Check,
    Status,
    VerificationReport,
    failed,
    passed,
    skipped,
)
from balancer.verification.weight_checks import BY_CELLS, SUMS, check_budget, check_weight_sums
from balancer.verification.witness import check_witness, find_witness

OF_EMBEDDINGS = ("embeddings", IN_EMBEDDINGS)
OF_CLAIMS = ("problem", "lower bound and ratio", "factor", "picked distances", SUMS)
OF_ALL_ROWS = (RECOMPUTED, "packing", "budget curve")


@dataclass(frozen=True, slots=True)
class _Manifest:
    """A manifest as read, and the run it lies in."""

    store: Store
    uri: str
    table: pa.Table
    facts: Mapping[str, Any]
    run: Run | None

    @property
    def tile_ids(self) -> list[str]:
        ids: list[str] = self.table["tile_id"].to_pylist()
        return ids

    @property
    def reasons(self) -> list[str | None]:
        column: list[str | None] = self.table["reason"].to_pylist()
        return column

    @property
    def distances(self) -> list[float | None]:
        column: list[float | None] = self.table["distance"].to_pylist()
        return column


def verify_manifest(
    store: Store,
    manifest_uri: str,
    *,
    embeddings: str | Sequence[EmbeddingShard] | None = None,
    columns: Columns | None = None,
) -> VerificationReport:
    """Check a manifest, and recompute its certificate from the embeddings.

    Args:
        store: opens everything.
        manifest_uri: the Parquet file.
        embeddings: what was selected from: a `.npy` matrix, a Parquet file or folder, or the
            embedding shards. When absent: those of the run whose folder the manifest lies in, or
            those that the footer names. Where nothing names any, what needs them is skipped, and
            the manifest does not count as verified.
        columns: names of the columns of Parquet embeddings.

    Returns:
        The outcome of every check. A claim that does not hold is a failed check, not an error.

    Raises:
        DataError: a manifest or embeddings that cannot be read, or embeddings that are named and
            cannot be found.
        StorageError: the store refuses or fails.

    Cost: O(N k D) in float64 matrix products for N rows and k picks, two readings of the
    embeddings, three where an order of picks or the sizes of cells are checked; 16 bytes and an id
    per row, the picks' vectors and one shard in memory.
    """
    table, facts = _read(store, manifest_uri)
    run = find_run(store, manifest_uri, facts)
    manifest = _Manifest(store, manifest_uri, table, facts, run)
    layout = check_columns(table)
    footer = check_footer(facts)
    checks = [layout, *check_run(store.read_bytes(manifest_uri), facts, run), footer]
    if Status.FAILED not in (layout.status, footer.status):
        strategy, of_strategy = check_strategy(table, facts)
        checks += [
            *check_table(table, facts),
            check_digest(table, facts, run),
            of_strategy,
            check_absent_distances(table, facts),
            check_cluster_numbers(table, facts, strategy, run),
        ]
        claims, claimed = _check_claims(manifest, strategy)
        found = find_embeddings(store, embeddings, run, facts, columns or Columns())
        checks += [*claimed, *_check_rows(manifest, claims, found, strategy)]
    return VerificationReport(store.absolute(manifest_uri), tuple(checks))


def _read(store: Store, uri: str) -> tuple[pa.Table, dict[str, Any]]:
    table = read_table(store, uri)
    text = (table.schema.metadata or {}).get(FOOTER_KEY)
    try:
        facts = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise DataError(
            f"{uri} must be a manifest: its Parquet footer must have the key "
            f"{FOOTER_KEY.decode()!r} with a JSON object. Give a file that balancer wrote."
        )
    return table, facts


def _check_claims(manifest: _Manifest, strategy: str | None) -> tuple[Claims | None, list[Check]]:
    """Check what needs no embeddings; return the claims if they can be checked further."""
    name, facts = "certificate", manifest.facts.get(CERTIFICATE_KEY)
    if facts is None:
        message = f"the footer must have the key {CERTIFICATE_KEY!r}"
        return None, [failed(name, message), *_skip(OF_CLAIMS, "the footer has no certificate")]
    try:
        claims = parse_claims(facts)
    except ValueError as error:
        return None, [failed(name, str(error)), *_skip(OF_CLAIMS, "the certificate is malformed")]
    rows = manifest.table.num_rows
    if claims.num_picks != rows:
        message = f"must be of {rows} picks, as many as the table has; it is of {claims.num_picks}"
        return None, [failed(name, message), *_skip(OF_CLAIMS, "the certificate is of another")]
    picks = f"{claims.num_picks} of {claims.num_rows} rows"
    given = f", {claims.num_included} included" if claims.num_included else ""
    out = f", {claims.num_outliers} left out" if claims.num_outliers else ""
    return claims, [
        passed(name, f"{picks}{given}{out}"),
        check_problem(claims),
        check_ratio(claims, guarantee_of(strategy, manifest.facts)),
        check_factor(claims, guarantee_of(strategy, manifest.facts)),
        *check_coreset(claims, strategy, manifest.facts),
        check_picked_distances(claims, manifest.distances, guarantee_of(strategy, manifest.facts)),
        check_weight_sums(
            manifest.store, manifest.run, manifest.table, claims, strategy, manifest.facts
        ),
        *check_budget(manifest.table, claims, manifest.run, manifest.facts),
        *check_included(claims, manifest.tile_ids, manifest.reasons, manifest.facts),
    ]


def _check_rows(
    manifest: _Manifest,
    claims: Claims | None,
    embeddings: Embeddings | None,
    strategy: str | None,
) -> list[Check]:
    """Check what needs the embeddings."""
    of_all_rows = [*OF_ALL_ROWS, *([CELLS] if strategy in BY_CELLS else [])]
    if embeddings is None:
        reason = "no embeddings at hand: name them with --embeddings"
        return _skip([*OF_EMBEDDINGS, *of_all_rows], reason)
    store, uri, run = manifest.store, manifest.uri, manifest.run
    excluded = load_excluded(store, uri, run, manifest.facts)
    of_excluded = check_excluded(excluded, manifest.tile_ids, manifest.facts)
    if isinstance(excluded, Check):
        reason = "which rows were selected from is not known"
        return [*of_excluded, *_skip([*OF_EMBEDDINGS, *of_all_rows], reason)]
    embeddings = replace(embeddings, excluded=excluded)
    witness: list[str] | Check = []
    if claims is not None:
        witness = find_witness(store, uri, run, claims, manifest.tile_ids)
    rows = witness if isinstance(witness, list) else []
    named = [*manifest.tile_ids, *rows, *outliers_of(manifest.facts)]
    stated = manifest.facts.get("embeddings_fingerprint")
    found = gather(embeddings, named, fingerprint=stated is not None)
    checks = [
        *of_excluded,
        _check_origin(manifest, embeddings, found),
        _check_present(manifest, found),
    ]
    if claims is None:
        return checks + _skip(of_all_rows, "there is no certificate to check")
    if checks[-1].status is Status.FAILED:
        return checks + _skip(of_all_rows, "not every tile is in the embeddings, once")
    picks = found.rows(manifest.tile_ids)
    sizes = [size for size, _, _ in claims.curve] or [len(picks)]
    squared, greatest = measure(embeddings, picks, sizes)
    order = check_order(
        store,
        run,
        embeddings,
        manifest.table,
        found,
        manifest.facts,
        num_outliers=claims.num_outliers,
    )
    return [
        *checks,
        check_radii(claims, squared),
        check_witness(claims, witness, manifest.tile_ids, found, strategy),
        check_curve(claims, manifest.distances, greatest, picks),
        *_check_cells(manifest, embeddings, picks, strategy),
        *order.checks,
        *check_outliers(
            claims, manifest.tile_ids, found, manifest.facts, ahead=order.ahead_of_outliers
        ),
    ]


def _check_cells(
    manifest: _Manifest, embeddings: Embeddings, picks: FloatArray, strategy: str | None
) -> list[Check]:
    if strategy not in BY_CELLS:
        return []
    ids = np.array(manifest.tile_ids, dtype=np.str_)
    weights = np.asarray(manifest.table["weight"].to_pylist(), np.float64)
    return [check_cells(weights, count_cells(embeddings.blocks(), ids, picks))]


def _check_origin(manifest: _Manifest, embeddings: Embeddings, found: Gathered) -> Check:
    """Check that these are the embeddings that the footer says were selected from."""
    name, facts = "embeddings", manifest.facts
    content, encoder = facts.get("embeddings_fingerprint"), facts.get("encoder_fingerprint")
    read = f"{found.num_rows} rows of {embeddings.origin}"
    other = "Give the embeddings that were selected from."
    if content is not None:
        if content != found.fingerprint:
            message = f"must have the fingerprint {content}; {read} have {found.fingerprint}"
            return failed(name, f"{message}. {other}")
        return passed(name, read)
    encoders = embeddings.encoders()
    if encoder is None or not encoders:
        return skipped(
            name,
            f"not checked: the footer has no embeddings_fingerprint, and nothing says which "
            f"encoder made both; read were {read}",
        )
    if encoders != {encoder}:
        made = ", ".join(sorted(encoders))
        return failed(name, f"must be made by encoder {encoder}; {read} are by {made}. {other}")
    return passed(name, f"{read}, by encoder {encoder}")


def _check_present(manifest: _Manifest, found: Gathered) -> Check:
    name, missing = IN_EMBEDDINGS, set(found.missing)
    absent = [tile_id for tile_id in manifest.tile_ids if tile_id in missing]
    if absent:
        return failed(
            name, f"must hold every tile; {absent[0]!r} is not there ({len(absent)} are not)"
        )
    if found.repeated is not None:
        return failed(name, f"must hold every tile once; {found.repeated!r} repeats")
    return passed(name, f"{manifest.table.num_rows} tiles")


def _skip(names: Sequence[str], reason: str) -> list[Check]:
    return [skipped(name, reason) for name in names]
