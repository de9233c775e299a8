"""What a manifest says of its constraints: included, excluded and left-out tiles, quality.

Each check is made only where the footer or the table has something of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from balancer.errors import DataError
from balancer.storage.certificates import EXCLUDED_KEY, INCLUDED_KEY, included_facts
from balancer.storage.filesystem import Store
from balancer.types import IdArray, IntArray
from balancer.verification.claims import Claims, FileClaim
from balancer.verification.distance_pass import Gathered
from balancer.verification.inputs import Run
from balancer.verification.report import Check, failed, passed, skipped
from balancer.verification.witness import load_ids

INCLUDE = "include"
WEIGHTED_OR_TRIMMED = "farthest-point with quality or outliers"


def selection_facts(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the footer's configuration of the selection; empty where it has none."""
    selection = (facts.get("config") or {}).get("selection") or {}
    return selection if isinstance(selection, Mapping) else {}


def guarantee_of(strategy: str | None, facts: Mapping[str, Any]) -> str | None:
    """Return the strategy by whose guarantee a certificate is judged.

    Farthest-point selection guarantees its factor, and has a budget curve, only where distances are
    not weighted and no rows are left out.
    """
    selection = selection_facts(facts)
    special = selection.get("quality_column") is not None or selection.get("num_outliers")
    return WEIGHTED_OR_TRIMMED if strategy == "farthest-point" and special else strategy


def load_excluded(
    store: Store, manifest_uri: str, run: Run | None, facts: Mapping[str, Any]
) -> IdArray | Check:
    """Return the excluded ids, none where nothing is excluded, or the check that failed.

    Raises:
        StorageError: the store refuses or fails.
    """
    name, entry = "exclusions", facts.get(EXCLUDED_KEY)
    if entry is None:
        # Also where a list is configured: one without ids excludes nothing and leaves no table.
        # With a table withheld, the radii of more rows are recomputed and do not agree.
        return np.empty(0, np.str_)
    try:
        file = FileClaim(str(entry["name"]), str(entry["sha256"]), int(entry["rows"]))
        return load_ids(store, manifest_uri, run, file)
    except (DataError, KeyError, TypeError, ValueError) as error:
        return failed(name, f"{EXCLUDED_KEY} must name a table of tile ids; {error}")


def check_excluded(
    excluded: IdArray | Check, tile_ids: Sequence[str], facts: Mapping[str, Any]
) -> list[Check]:
    """Check that nothing excluded is picked, and that excluding was asked for."""
    name, selection = "exclusions", selection_facts(facts)
    if isinstance(excluded, Check):
        return [excluded]
    if len(excluded) == 0:
        return []
    if selection and selection.get("exclude") is None:
        return [failed(name, "the footer names excluded tiles, and its configuration no list")]
    picked = np.flatnonzero(np.isin(np.array(tile_ids, dtype=np.str_), excluded))
    if len(picked):
        return [failed(name, f"no excluded tile may be picked; {tile_ids[picked[0]]!r} is")]
    return [passed(name, f"none of {len(excluded)} excluded ids is picked or must be covered")]


def check_included(
    claims: Claims,
    tile_ids: Sequence[str],
    reasons: Sequence[str | None],
    facts: Mapping[str, Any],
) -> list[Check]:
    """Check that the first picks, and only they, are the included ones, as the footer has them."""
    name, count = "inclusions", claims.num_included
    named = [rank for rank, reason in enumerate(reasons) if reason == INCLUDE]
    if not named and not count and selection_facts(facts).get("include") is None:
        return []
    if named != list(range(count)):
        return [
            failed(
                name,
                f"the first {count} picks must have the reason {INCLUDE!r}, and no other; "
                f"{len(named)} have it",
            )
        ]
    stated = facts.get(INCLUDED_KEY)
    if stated is None and selection_facts(facts).get("include") is None:
        return [passed(name, f"the first {count} picks; the footer names no list")]
    if stated != included_facts(np.array(tile_ids[:count], dtype=np.str_))[INCLUDED_KEY]:
        return [
            failed(
                name,
                f"the first {count} picks must be the tiles that {INCLUDED_KEY} in the footer has "
                f"the digest of, in their order; it is {stated}",
            )
        ]
    return [passed(name, f"the first {count} picks, as the footer has them")]


def outliers_of(facts: Mapping[str, Any]) -> list[str]:
    """Return the ids that the footer says were left out."""
    named = facts.get("outliers") or []
    return [str(tile_id) for tile_id in named] if isinstance(named, list) else []


def check_outliers(
    claims: Claims,
    tile_ids: Sequence[str],
    found: Gathered,
    facts: Mapping[str, Any],
    *,
    ahead: IntArray | None,
) -> list[Check]:
    """Check that the rows left out are as many as claimed, not picked, and the farthest in order.

    Args:
        claims: the certificate.
        tile_ids: of the manifest.
        found: the rows that are named.
        facts: the footer.
        ahead: (z,) how many rows are ahead of each; None where their quality is not known.
    """
    name, named, selection = "outliers", outliers_of(facts), selection_facts(facts)
    stated = selection.get("num_outliers", claims.num_outliers)
    if not named and not selection.get("num_outliers"):
        return []  # a certificate of a selection made elsewhere need not name them
    if not len(named) == len(set(named)) == claims.num_outliers == stated:
        return [
            failed(
                name,
                f"must be {claims.num_outliers} distinct tiles, as the certificate says; the "
                f"footer names {len(set(named))} and is configured for {stated}",
            )
        ]
    wrong = sorted(set(named) & (set(tile_ids) | set(found.missing)))
    if wrong:
        return [failed(name, f"must be rows that are not picked; {wrong[0]!r} is picked or absent")]
    if ahead is None:
        return [skipped(name, "not checked: which rows are farthest takes quality and pick order")]
    misplaced = np.flatnonzero(ahead != np.arange(len(named)))
    if len(misplaced):
        place = int(misplaced[0])
        return [
            failed(
                name,
                f"{place} rows must be farther from the picks than {named[place]!r}; {ahead[place]}"
                f" are",
            )
        ]
    return [passed(name, f"{len(named)} rows, the farthest from the picks, in order")]
