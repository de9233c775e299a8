"""Certified manifests of small embeddings, made as a caller of the selection makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from balancer.distances import l2_normalize, nearest_rows
from balancer.imbalance.radius import covering_radii
from balancer.selection.certificate import Certificate, budget_curve, certify
from balancer.selection.coresets import finalize_coreset, local_coreset, merge_coresets
from balancer.selection.farthest_point import farthest_point, row_ids
from balancer.selection.k_center import Packing, Problem, picks_packing, table_packing
from balancer.storage.certificates import write_certificate
from balancer.storage.embedding_identity import embeddings_fingerprint, sum_row_digests
from balancer.storage.filesystem import Store
from balancer.storage.manifests import manifest_table, write_manifest
from balancer.storage.tables import read_table, write_table
from balancer.types import FloatArray, IdArray, IntArray, Selection

Facts = dict[str, Any]
FORMS = ("farthest-point", "included", "random", "outliers", "coreset", "everything")
"""Ways to select that `select_form` has."""
NUM_ROWS, DIM, BUDGET = 300, 6, 20


@dataclass(frozen=True)
class Certified:
    """A selection with its certificate; `packing_ids` where a table is the witness."""

    picks: IntArray
    distances: FloatArray
    certificate: Certificate
    packing_ids: IdArray | None = None


def made_embeddings(seed: int = 0) -> tuple[IdArray, FloatArray]:
    """Return ids and unnormalised clusters of very unequal sizes, some rows twice."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((8, DIM)) * 3
    sizes = rng.geometric(0.3, NUM_ROWS) % 8
    points = (centers[sizes] + rng.standard_normal((NUM_ROWS, DIM))).astype(np.float32)
    points[-10:] = points[:10]
    return row_ids(NUM_ROWS), points


def select_form(form: str, points: FloatArray, ids: IdArray) -> Certified:
    """Select by the named form of `FORMS` and certify."""
    if form == "everything":
        return certified_run(points, ids, len(points))
    if form == "farthest-point":
        return certified_run(points, ids, BUDGET)
    if form == "included":
        return certified_run(points, ids, BUDGET, np.arange(40, 45))
    if form == "coreset":
        return certified_coreset(points, ids)
    num_outliers = 7 if form == "outliers" else 0
    problem = Problem(len(points), BUDGET, num_outliers)
    picks = np.random.default_rng(3).permutation(len(points))[:BUDGET]
    squared = nearest_rows(points, points[picks])[1]
    run = farthest_point(points, problem.packing_size, first=5, ids=ids)
    packing = table_packing(float(run.distances[-1]), ids[run.indices])
    trimmed = float(np.sqrt(np.sort(squared)[-1 - num_outliers])) if num_outliers else None
    found = certify(problem, covering_radii(squared), packing, radius=trimmed)
    return Certified(picks, np.full(BUDGET, np.nan, np.float32), found, ids[run.indices])


def certified_run(
    points: FloatArray, ids: IdArray, count: int, included: IntArray | None = None
) -> Certified:
    """Farthest-point selection, from included rows on if there are any."""
    given = np.empty(0, np.int64) if included is None else included
    taken = np.zeros(len(points), np.bool_)
    taken[given] = True
    run = farthest_point(
        points,
        min(count - len(given) + 1, len(points)),
        first=2 if included is None else None,
        ids=ids,
        selected=None if included is None else points[given],
        excluded=taken,
    )
    problem = Problem(len(points), count, num_included=len(given))
    free = count - len(given)
    picks = np.concatenate([given, run.indices[:free]])
    distances = np.concatenate([np.full(len(given), np.nan, np.float32), run.distances[:free]])
    radii = covering_radii(nearest_rows(points, points[picks])[1])
    farthest = str(ids[run.indices[free]]) if len(run.indices) > free else None
    packing = picks_packing(problem, radii["100"], farthest)
    curve = budget_curve(distances, radii["100"], num_included=len(given))
    return Certified(picks, distances, certify(problem, radii, packing, factor=2.0, curve=curve))


def certified_coreset(points: FloatArray, ids: IdArray) -> Certified:
    """Ceccarello's two rounds over three shards."""
    owner = np.arange(len(points)) % 3
    merged = merge_coresets(
        [
            local_coreset(points[owner == s], ids[owner == s], BUDGET, epsilon=0.5, seed=1)
            for s in range(3)
        ]
    )
    found = finalize_coreset(merged, seed=1)
    picks = np.array([ids.tolist().index(name) for name in found.ids.tolist()])
    squared = nearest_rows(points, found.vectors)[1]
    radii = covering_radii(squared)
    # The row that is farthest in the end makes a better packing than the union's.
    radius = min(radii["100"], float(found.distances[-1]))
    packing = Packing(radius, BUDGET + 1, "picks", str(ids[int(squared.argmax())]))
    problem = Problem(len(points), BUDGET)
    certificate = certify(problem, radii, packing, factor=found.factor)
    return Certified(picks, np.full(BUDGET, np.nan, np.float32), certificate)


def write_certified(
    folder: Path,
    form: str = "farthest-point",
    *,
    normalize: bool = True,
    facts: Facts | None = None,
) -> tuple[Path, Path]:
    """Write embeddings and a certified manifest; return manifest and embeddings."""
    ids, raw = made_embeddings()
    embeddings = folder / "embeddings.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(raw.reshape(-1)), DIM)
    write_table(Store(), str(embeddings), pa.table({"tile_id": ids.tolist(), "embedding": vectors}))
    found = select_form(form, l2_normalize(raw) if normalize else raw, ids)
    count = len(found.picks)
    selection = Selection(
        tile_ids=ids[found.picks],
        shard_ids=np.full(count, ""),
        cluster=np.full(count, -1),
        distance=found.distances,
        weight=np.full(count, len(ids) / count if form == "random" else 1.0),
        reason=np.where(
            np.arange(count) < found.certificate.problem.num_included, "include", form
        ),
    )
    manifest = folder / "manifest.parquet"
    certificate = found.certificate.to_json()
    footer = {
        "config": {"normalize": normalize},
        "embeddings": str(embeddings),
        "embeddings_fingerprint": embeddings_fingerprint(sum_row_digests(ids, raw), len(ids)),
        "round": 0,
        **write_certificate(Store(), str(manifest), certificate, found.packing_ids),
        **(facts or {}),
    }
    write_manifest(Store(), str(manifest), manifest_table(selection), footer)
    return manifest, embeddings


def rewrite(
    path: Path,
    change_facts: Callable[[Facts], object] = lambda _: None,
    change_table: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> None:
    """Change a manifest's footer, in place, and its table, as somebody else might."""
    table = read_table(Store(), str(path))
    facts = json.loads(table.schema.metadata[b"balancer"])
    change_facts(facts)
    write_table(Store(), str(path), change_table(table), {"balancer": json.dumps(facts)})
