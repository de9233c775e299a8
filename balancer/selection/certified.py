"""The certificate of a finished selection, whatever strategy made it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from balancer.seeding import derive_seed
from balancer.selection.certificate import Certificate, budget_curve, certify
from balancer.selection.exchange import Picks
from balancer.selection.included import included_picks
from balancer.selection.k_center import Problem, picks_packing, table_packing
from balancer.selection.pool import Pool
from balancer.types import IdArray, Selection


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate, and the rows of its packing where they are not the picks themselves."""

    certificate: Certificate
    packing_ids: IdArray | None = None


def certify_selection(pool: Pool, selection: Selection, *, seed: int) -> Certified:
    """Measure a selection's covering radii and prove a lower bound of the best possible radius.

    A plain farthest-point selection proves its own bound. Any other gets one from a farthest-point
    run of one pick more over the same rows. With included tiles, radius and bound are given those:
    both runs start from them. With z outliers the radius leaves out the z farthest rows, and the
    run makes z picks more. Quality changes what is picked, never what is measured: radii and bounds
    are of plain distances. So with quality and outliers the radius leaves out the z rows that are
    plainly farthest, and `Selection.outliers` names those farthest by weighted distance.

    Args:
        pool: the rows it was selected from.
        selection: the picks.
        seed: decides the first row of that run.

    Cost: one pass of N * n * D for the radii; for others than farthest-point its run as well.

    >>> from balancer.selection.pool import ArrayPool
    >>> from balancer.selection import select
    >>> line = np.arange(8, dtype=np.float32)[:, None]
    >>> pool = ArrayPool(line, np.arange(8).astype(str))
    >>> picked = select(line, 2, normalize=False)
    >>> certify_selection(pool, picked, seed=0).certificate.ratio <= 2
    True
    """
    num_outliers = 0 if selection.outliers is None else len(selection.outliers)
    problem = Problem(pool.num_rows, len(selection), num_outliers, selection.num_included)
    radii = pool.covering_radii(pool.vectors(selection.tile_ids), num_outliers=num_outliers)
    trimmed = radii.pop("trimmed", None)
    if selection.radius is not None:
        return Certified(
            certify(
                problem,
                radii,
                picks_packing(problem, radii["100"], selection.farthest_id),
                factor=selection.factor,
                curve=budget_curve(
                    selection.distance, radii["100"], num_included=selection.num_included
                ),
            )
        )
    if problem.is_trivial:
        return Certified(certify(problem, radii, None, factor=selection.factor, radius=trimmed))
    given = included_picks(pool, selection.tile_ids[: selection.num_included])
    packing_ids = given.ids[:0]
    if selection.num_included == 0:
        packing_ids, vectors = pool.sample(1, derive_seed(seed, "packing"))
        given = Picks(packing_ids, vectors, np.full(1, np.nan, np.float32))
    run = pool.farthest(problem.packing_size - len(packing_ids), given)
    packing_ids = np.concatenate([packing_ids, run.picks.ids])
    packing = table_packing(float(np.sqrt(run.picks.keys[-1])), packing_ids)
    certificate = certify(problem, radii, packing, factor=selection.factor, radius=trimmed)
    return Certified(certificate, packing_ids)
