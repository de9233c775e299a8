"""The rows that prove a certificate's lower bound: find them, and check that they do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from balancer.errors import DataError
from balancer.storage.certificates import read_packing
from balancer.storage.filesystem import Store
from balancer.types import IdArray
from balancer.verification.certificate_checks import check_packing
from balancer.verification.claims import Claims, FileClaim
from balancer.verification.distance_pass import Gathered
from balancer.verification.inputs import Run
from balancer.verification.report import Check, failed, passed, skipped

NAME = "packing"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


def find_witness(
    store: Store, manifest_uri: str, run: Run | None, claims: Claims, tile_ids: Sequence[str]
) -> list[str] | Check:
    """Return the ids of the packing's rows, or the check that failed for want of them.

    Args:
        store: opens the table, if it is one.
        manifest_uri: the table lies beside it, or where its round was published.
        run: that the manifest lies in.
        claims: the certificate.
        tile_ids: of the manifest, in rank order.

    Raises:
        StorageError: the store refuses or fails.
    """
    packing = claims.packing
    if packing.witness == "none":
        return []
    if packing.witness == "picks":
        if packing.farthest_tile_id is None:
            return failed(NAME, "must name the farthest tile beside the picks")
        return [*tile_ids[claims.num_included :], packing.farthest_tile_id]
    if packing.file is None:
        return failed(NAME, "must name the table of its rows")
    try:
        ids = load_ids(store, manifest_uri, run, packing.file)
    except (DataError, TypeError, ValueError) as error:  # the latter two: ids of a wrong type
        return failed(NAME, f"packing.file must be a table of tile ids; {error}")
    return [str(tile_id) for tile_id in ids.tolist()]


def check_witness(
    claims: Claims,
    witness: list[str] | Check,
    tile_ids: Sequence[str],
    found: Gathered,
    strategy: str | None,
) -> Check:
    """Check that the rows that `find_witness` returned prove the lower bound.

    A selection of every known strategy comes with such rows, unless all rows can be picked or left
    out, or all lie on picks. Only a certificate from elsewhere may do without.
    """
    if isinstance(witness, Check):
        return witness
    if claims.packing.witness == "none":
        if claims.optimum_is_zero and claims.packing.radius == 0:
            return passed(NAME, "none is needed: every row can be picked or left out")
        if claims.packing.radius != 0:
            return failed(
                NAME,
                f"must have rows that prove its radius {claims.packing.radius}, or the radius 0; "
                f"it has no witness",
            )
        if claims.radius == 0:
            return passed(NAME, "none is needed: every row lies on a pick")
        if strategy is not None:
            return failed(
                NAME,
                f"must name rows that bound the optimum, as {strategy} with a radius of "
                f"{claims.radius} does; it has no witness",
            )
        return skipped(NAME, "the certificate has none, so its lower bound is 0")
    missing = set(found.missing)
    absent = [tile_id for tile_id in witness if tile_id in missing]
    if absent:
        return failed(NAME, f"every row must be in the embeddings; {absent[0]!r} is not")
    included = tile_ids[: claims.num_included]
    return check_packing(claims, witness, found.rows([*included, *witness]))


def load_ids(store: Store, manifest_uri: str, run: Run | None, file: FileClaim) -> IdArray:
    """Read a table of ids that lies beside the manifest, or where its round was published.

    Raises:
        DataError: missing, damaged, or a name that is none.
        StorageError: the store refuses or fails.
    """
    if not _FILE_NAME.fullmatch(file.name):
        raise DataError(
            f"A table of ids must be named by a file in the manifest's folder; got {file.name!r}. "
            f"Select again to have it made."
        )
    places = [store.absolute(manifest_uri).rpartition("/")[0]]
    if run is not None:
        places.append(run.ledger.absolute(f"{run.round_name}/publish"))
    uris = [store.join(place, file.name) for place in places]
    uri = next((uri for uri in uris if store.exists(uri)), uris[0])
    return read_packing(store, uri, sha256=file.sha256, rows=file.rows)
