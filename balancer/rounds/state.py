"""What a round leaves behind, as the `COMMIT.json` of its folder and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from balancer.storage.ledger import Ledger
from balancer.storage.selections import read_clustering
from balancer.storage.tables import read_table
from balancer.types import (
    Clustering,
    EmbeddingShard,
    EncoderRef,
    IdArray,
    Manifest,
    RoundState,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The frozen reference that all rounds are measured in: round 0's embeddings and clusters.

    `record` is the completion record of the clustering.
    """

    embeddings: tuple[EmbeddingShard, ...]
    clustering: Clustering
    record: Mapping[str, Any]


def reference_from_json(payload: Mapping[str, Any], first: RoundState, ledger: Ledger) -> Reference:
    """Return the reference that round 0's commit names."""
    record = payload["reference"]
    table = read_table(ledger.store, ledger.absolute(record["path"]), sha256=record["sha256"])
    clustering = read_clustering(table, record["inertia"], record["inputs"])
    return Reference(first.embeddings, clustering, record)


def advance(
    state: RoundState,
    *,
    encoder: EncoderRef,
    embeddings: tuple[EmbeddingShard, ...],
    clustering: Clustering,
    manifest: Manifest,
    measures: Mapping[str, Any],
) -> RoundState:
    """Return the state after one more round."""
    return replace(
        state,
        index=state.index + 1,
        encoder=encoder,
        embeddings=embeddings,
        clustering=clustering,
        manifest=manifest,
        measures=measures,
    )


def state_to_json(
    state: RoundState, ledger: Ledger, clustering: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the commit payload of a round; `clustering` is its completion record."""
    assert state.encoder is not None  # a finished round has everything
    assert state.manifest is not None
    return {
        "round": state.index,
        "seed": state.seed,
        "config_fingerprint": state.config_fingerprint,
        "encoder": {
            "path": ledger.relative(state.encoder.uri),
            "kind": state.encoder.kind,
            "dim": state.encoder.dim,
            "fingerprint": state.encoder.fingerprint,
        },
        "embeddings": [
            {
                "shard_id": shard.shard_id,
                "path": ledger.relative(shard.uri),
                "rows": shard.num_rows,
                "dim": shard.dim,
                "sha256": shard.sha256,
            }
            for shard in state.embeddings
        ],
        "clustering": {
            key: clustering[key] for key in ("path", "sha256", "inertia", "skew", "inputs")
        },
        "manifest": {
            "path": ledger.relative(state.manifest.uri),
            "rows": state.manifest.num_rows,
            "schema_version": state.manifest.schema_version,
            "selection_fingerprint": state.manifest.selection_fingerprint,
            "sha256": state.manifest.sha256,
        },
        "measures": dict(state.measures),
    }


def state_from_json(payload: Mapping[str, Any], ledger: Ledger) -> RoundState:
    """Return the state of a committed round."""
    encoder, manifest, kmeans = payload["encoder"], payload["manifest"], payload["clustering"]
    table = read_table(ledger.store, ledger.absolute(kmeans["path"]), sha256=kmeans["sha256"])
    return RoundState(
        index=payload["round"],
        seed=payload["seed"],
        config_fingerprint=payload["config_fingerprint"],
        encoder=EncoderRef(
            ledger.absolute(encoder["path"]),
            encoder["kind"],
            encoder["dim"],
            encoder["fingerprint"],
        ),
        embeddings=tuple(
            EmbeddingShard(
                entry["shard_id"],
                ledger.absolute(entry["path"]),
                entry["rows"],
                entry["dim"],
                encoder["fingerprint"],
                entry["sha256"],
            )
            for entry in payload["embeddings"]
        ),
        clustering=read_clustering(table, kmeans["inertia"], kmeans["inputs"]),
        manifest=Manifest(
            ledger.absolute(manifest["path"]),
            manifest["rows"],
            manifest["schema_version"],
            manifest["selection_fingerprint"],
            manifest["sha256"],
        ),
        measures=payload["measures"],
    )


def manifest_ids(ledger: Ledger, manifest: Manifest) -> IdArray:
    """Return the tile ids of a manifest, in rank order."""
    table = read_table(ledger.store, manifest.uri, sha256=manifest.sha256, columns=["tile_id"])
    ids: IdArray = table["tile_id"].to_numpy().astype(str)
    return ids
