"""Fill the report from a run directory, finished or not, and write it: `balancer report RUN`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from balancer.config import SelectionConfig
from balancer.report.certificate import read_guarantee
from balancer.report.content import (
    Audit,
    Provenance,
    QuarantinedTile,
    ReportContent,
    Request,
    RoundRecord,
)
from balancer.report.measured import outcome_columns, random_class_counts, round_values
from balancer.report.page import render_page
from balancer.report.run_files import LAT_NAMES, LON_NAMES, RunFiles, open_run_files
from balancer.report.samples import contact_sheets
from balancer.report.tile_table import TileTable, class_sizes, cluster_sizes, read_tile_table
from balancer.report.tile_views import coordinates, projection
from balancer.report.vocabulary import format_count
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Record

FILE_NAME = "report.html"
QUARANTINE_ROWS = 20
LOSS_NAMES = {
    "simclr": "NT-Xent loss (nats)",
    "autoencoder": "reconstruction error (mean square)",
}


def write_report(store: Store, run_uri: str, out_uri: str | None = None) -> str:
    """Collect, render and write the report, replacing an earlier one.

    Args:
        store: where to read and write.
        run_uri: the `--out` of the run.
        out_uri: the page; `<run>/report.html` when absent.

    Returns:
        Where the page is.

    Raises:
        DataError: no run there, no catalog yet, or damaged artefacts.
        StorageError: the store refuses or fails.
    """
    page = render_page(collect(store, run_uri))
    uri = store.join(run_uri, FILE_NAME) if out_uri is None else out_uri
    store.write_bytes(uri, page.encode())
    return uri


def collect(store: Store, run_uri: str, *, created: str = "") -> ReportContent:
    """Read a run directory into a report. The run needs its catalog; rounds may be missing.

    Args:
        store: where to read.
        run_uri: the `--out` of the run.
        created: a date to print on the page.

    Raises:
        DataError: no run there, no catalog yet, or damaged artefacts.
        StorageError: the store refuses or fails.

    Cost: reads the catalog, the last round's assignments, embeddings (one shard at a time) and
    manifest, and up to 768 tiles; memory about 400 bytes per tile of the archive.
    """
    run = open_run_files(store, run_uri)
    config = run.config
    label = run.catalog.get("label_column")
    extra = [name for name in (label, *LON_NAMES, *LAT_NAMES) if name]
    places = run.read_catalog(list(dict.fromkeys(extra)))
    last = run.rounds[-1] if run.rounds else None
    tiles = read_tile_table(run, places, label, last, seed=int(config.get("seed", 0)))
    sheets, thumbnail_warning = contact_sheets(store, tiles)
    request = _request(run, config, last)
    num_picked = int(tiles.picked.sum())
    measures = last["measures"] if last else {}
    warnings = [
        *(last["warnings"] if last else ()),
        _not_picked(tiles, last, _excludes(config)) if last else "",
    ]
    return ReportContent(
        title=run_uri.rstrip("/").rpartition("/")[2] or run_uri,
        request=request,
        num_picked=num_picked,
        audit=_audit(run),
        provenance=_provenance(run, run_uri, config, last),
        outcome=outcome_columns(measures),
        stopped=_stopped(run, request.rounds),
        warnings=tuple(text for text in (*warnings, thumbnail_warning) if text),
        rounds=tuple(_round(commit) for commit in run.rounds),
        loss_name=LOSS_NAMES.get(str(config.get("encoder", {}).get("kind")), "training loss"),
        clusters=sheets,
        num_clusters=len(np.unique(tiles.cluster[tiles.cluster >= 0])),
        cluster_sizes=cluster_sizes(tiles),
        class_sizes=class_sizes(tiles, random_class_counts(measures)) if last else None,
        projection=projection(run, tiles, last) if last else None,
        coordinates=coordinates(tiles),
        guarantee=read_guarantee(request.strategy, run.read_certificate(last)) if last else None,
        created=created,
    )


def _request(run: RunFiles, config: Mapping[str, Any], last: Record | None) -> Request:
    selection = SelectionConfig.model_validate(config["selection"])
    encoder = config.get("encoder", {})
    strategy: str = selection.strategy
    if strategy in {"per-cluster", "hierarchical"}:
        strategy += f", {selection.within} inside"
    if last and (fallback := last.get("fallback")):
        strategy += f"; in the last round {fallback['strategy']} instead, see Health"
    num_tiles = int(run.catalog["num_tiles"])
    return Request(
        archive_uri=str(config["archive"]["uri"]),
        num_tiles=num_tiles,
        num_shards=len(run.catalog["shards"]),
        num_bytes=sum(int(shard["num_bytes"]) for shard in run.catalog["shards"]),
        budget=selection.resolve(num_tiles),
        strategy=strategy,
        encoder=f"{encoder.get('kind')}, {encoder.get('backbone')}, {encoder.get('image_size')} px",
        rounds=int(config.get("rounds", len(run.rounds))),
        seed=int(config.get("seed", 0)),
    )


def _audit(run: RunFiles) -> Audit:
    facts = run.catalog
    return Audit(
        num_input=int(facts["num_listed"]),
        num_kept=int(facts["num_tiles"]),
        num_duplicates=int(facts["num_duplicates"]),
        num_quarantined=int(facts["num_quarantined"]),
        num_left_out=int(facts.get("num_left_out", 0)),
        reasons={str(reason): int(count) for reason, count in facts["reasons"].items()},
        sample=tuple(
            QuarantinedTile(
                row["tile_id"] or row["member"] or row["uri"],
                f"{row['uri']} {row['member'] or ''}".strip(),
                row["reason"],
                row["detail"],
            )
            for row in run.read_quarantine(QUARANTINE_ROWS)
        ),
    )


def _stopped(run: RunFiles, asked: int) -> str:
    done = len(run.rounds)
    if run.final is not None:
        return str(run.final["stopped_because"])
    return f"not finished: {done} of {asked} rounds done"


def _not_picked(tiles: TileTable, last: Record, excludes: bool) -> str:
    dropped = last.get("near_duplicates", {}).get("near_duplicates", 0)
    left = int((tiles.cluster < 0).sum()) - int(dropped)
    if left == 0:
        return ""
    why = "is excluded by the configuration's list or could not" if excludes else "could not"
    return (
        f"{format_count(left, 'cataloged tile')} {why} be embedded in the last round and could "
        f"not be picked; the quarantine tables beside its embeddings give the reasons."
    )


def _excludes(config: Mapping[str, Any]) -> bool:
    return bool(config["selection"].get("exclude"))


def _round(commit: Record) -> RoundRecord:
    return RoundRecord(
        index=int(commit["round"]),
        num_picked=int(commit["manifest"]["rows"]),
        losses=tuple(float(epoch["loss"]) for epoch in commit["history"]),
        values=round_values(commit),
    )


def _provenance(
    run: RunFiles, run_uri: str, config: Mapping[str, Any], last: Record | None
) -> Provenance:
    fingerprints = {"input": str(run.catalog["inputs"])}
    artefacts = {"Run": run_uri}
    if last is not None:
        path = run.final["manifest"] if run.final else last["manifest"]["path"]
        artefacts["Manifest"] = run.ledger.absolute(path)
        fingerprints |= {
            "encoder": last["encoder"]["fingerprint"],
            "clustering": last["clustering"]["inputs"],
            "selection": last["manifest"]["selection_fingerprint"],
            "manifest sha256": last["manifest"]["sha256"],
        }
    return Provenance(
        config=config,
        fingerprints=fingerprints,
        versions={"balancer": str(run.spec.get("code_version", "unknown"))},
        artefacts=artefacts,
        command=f"balancer run config.yaml --out {shlex.quote(run_uri)}",
    )
