"""Verification: check a manifest and its certificate without trusting the code that made them.

Modules:
    verify: `verify_manifest`, all checks of one manifest.
    report: a check and its outcome; the report of all.
    claims: what a footer claims in its certificate.
    inputs: find the run, the embeddings and the packing.
    manifest_checks: what table, footer and run records say of each other.
    geometry: exact nearest distances in float64, in plain numpy.
    canonical: the distances that decide, to the last bit, in plain numpy.
    distance_pass: passes over the embeddings.
    quality: the column that a selection was weighted by.
    pick_order: whether each pick was the farthest at its turn.
    order_checks: distances, order and outliers of a farthest-point selection.
    cells: rows nearest to each pick.
    column_checks: distances and cluster numbers that must be absent.
    constraint_checks: included, excluded and left-out tiles.
    coreset_checks: the factor of a two-round selection.
    weight_checks: weights and budget.
    certificate_checks: the certificate's numbers against the recomputed ones.

Nothing here imports the selection, the clustering or the distances of balancer: an import contract
sees to it.
"""

from balancer.verification.report import Check, Status, VerificationReport
from balancer.verification.verify import verify_manifest

__all__ = ["Check", "Status", "VerificationReport", "verify_manifest"]
