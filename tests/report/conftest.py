"""A small but complete report, made from drawn tiles."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from balancer.report.content import (
    Audit,
    ClusterSheet,
    Coordinates,
    GroupSizes,
    OutcomeColumn,
    Projection,
    Provenance,
    QuarantinedTile,
    ReportContent,
    Request,
    RoundRecord,
    Thumbnail,
)

MakeSheets = Callable[[int, int], tuple[ClusterSheet, ...]]


def _jpeg(rng: np.random.Generator, size: int) -> bytes:
    buffer = io.BytesIO()
    # Noise is the least compressible tile there is, so sizes below are upper bounds.
    pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


@pytest.fixture
def make_sheets() -> MakeSheets:
    """Return a maker of contact sheets: clusters, thumbnails per cluster."""

    def make(num_clusters: int, per_cluster: int) -> tuple[ClusterSheet, ...]:
        rng = np.random.default_rng(0)

        def strip(cluster: int, kind: str) -> tuple[Thumbnail, ...]:
            return tuple(
                Thumbnail(f"{kind}/{cluster}-{i}.jpg", _jpeg(rng, 96), "forest")
                for i in range(per_cluster // 2)
            )

        return tuple(
            ClusterSheet(c, 200 - c, 10, strip(c, "picked"), strip(c, "dropped"))
            for c in range(num_clusters)
        )

    return make


@pytest.fixture
def content(make_sheets: MakeSheets) -> ReportContent:
    """Return a report with every section."""
    rng = np.random.default_rng(1)
    num = 300
    picked = rng.random(num) < 0.2
    names = ("ocean", "forest", "mine")
    values = {"rare_class_coverage": 0.21, "effective_classes": 2.9, "gini": 0.1, "churn": 0.4}
    values |= {f"covering_radius_{share}": share / 200 for share in (100, 99, 95)}
    health = {"effective_rank": 30.0, "retrieval_at_1": 0.9, "spread": 0.9}
    return ReportContent(
        title="demo",
        request=Request(
            archive_uri="data/demo",
            num_tiles=4500,
            num_shards=5,
            num_bytes=9_000_000,
            budget=600,
            strategy="per-cluster, farthest-point inside",
            encoder="SimCLR, small-conv",
            rounds=3,
            seed=0,
        ),
        num_picked=600,
        audit=Audit(
            num_input=4510,
            num_kept=4500,
            num_duplicates=3,
            num_quarantined=7,
            reasons={"truncated": 5, "not-an-image": 2},
            sample=(QuarantinedTile("bad-1", "data/demo/0.tar", "truncated", "ends early"),),
        ),
        provenance=Provenance(
            config={"selection": {"budget": 600}},
            fingerprints={"configuration": "0123456789abcdef"},
            versions={"balancer": "0.1.0"},
            artefacts={"Manifest": "runs/demo/round-002/manifest.parquet"},
            command="balancer run demo.yaml",
        ),
        outcome=(
            OutcomeColumn("Archive", "archive", {"effective_classes": 1.8, "gini": 0.5}),
            OutcomeColumn(
                "Random",
                "compared",
                {"rare_class_coverage": 0.03, "effective_classes": 1.8, "gini": 0.5},
                {"gini": 0.01},
            ),
            OutcomeColumn("Balanced", "selected", values),
        ),
        stopped="converged after round 2",
        warnings=("Round 0: augmentation retrieval is 61 %: train longer.",),
        rounds=tuple(
            RoundRecord(i, 600, (5.0 - i, 4.5 - i, 4.2 - i), values | health) for i in range(3)
        ),
        clusters=make_sheets(14, 4),
        num_clusters=40,
        cluster_sizes=GroupSizes(
            tuple(map(str, range(40))), np.arange(200, 160, -1), np.full(40, 15)
        ),
        class_sizes=GroupSizes(
            names,
            np.array([4000, 400, 100]),
            np.array([200, 200, 200]),
            np.array([533.0, 53.0, 14.0]),
        ),
        projection=Projection(
            points=rng.normal(size=(num, 2)),
            picked=picked,
            group=rng.integers(0, 3, num),
            group_names=names,
            group_kind="class",
            explained=(0.4, 0.2),
            num_total=4500,
        ),
        coordinates=Coordinates(
            rng.uniform(-20, 40, num), rng.uniform(35, 60, num), picked, num_total=4500
        ),
    )
