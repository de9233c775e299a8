r"""Which label-free measure of an embedding tells how much diverse selection gains over random?

    python -m jobs.health_study --out runs/health runs/study/*-pool-*

reads finished runs of labeled archives with a holdout (such as those of `jobs.balance_study`), over
several encoders, archives and lengths of training, scores their selections, and correlates the
health measures of the embeddings with the lifts. Measures that a run did not record are made up
for: those of stored embeddings from the embeddings, those of augmented views by assessing the
stored encoder again, which `--no-assess` leaves out. What is measured of a run is kept under
`--out`, so running it again with more runs continues.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from balancer.cli import exit_with_codes
from balancer.comparison.balance_study import ORACLE, RANDOM
from balancer.comparison.health_study import Observation
from balancer.comparison.health_tables import study_tables
from balancer.config import Config, digest_json
from balancer.config_file import build_config
from balancer.embedding.health import unit_rows
from balancer.embedding.structure import health_centroids, structure_of
from balancer.errors import DataError
from balancer.selection.uniform import lowest_hashes
from balancer.stages.assess import HEALTH_TILES, assess
from balancer.stages.catalog import build_catalog, discover_sources
from balancer.stages.context import RunContext
from balancer.stages.progress import Reporter
from balancer.stages.resources import ray_session
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from jobs.balance_study import ScoredRound, score_run

NOT_MEASURES = ("num_tiles", "dim")
OF_VIEWS = "lidar"
"""One of the measures that need augmented views; older runs did not record it."""


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, observe every run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m jobs.health_study", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", required=True, help="folder for observations and tables")
    parser.add_argument("--fallback", default="per-cluster", help="strategy rules fall back to")
    parser.add_argument("--no-assess", action="store_true", help="skip what needs the encoder")
    options = parser.parse_args(arguments)
    exit_with_codes(lambda: _study(options))


def _study(options: argparse.Namespace) -> None:
    store, reporter = Store(), Reporter()
    found: dict[tuple[str, str, int], Observation] = {}
    for number, run in enumerate(options.runs):
        for observation in _observed(store, options, run):
            key = (*observation.cell, observation.pool)
            if key in found:
                reporter.warn(f"{run} repeats {key}, which is used already; it is left out.")
            else:
                found[key] = observation
        reporter.say(f"{number + 1} of {len(options.runs)} runs observed")
    rows = [found[key] for key in sorted(found)]
    if not rows:
        raise DataError("The study needs a finished round; none of the runs has one.")
    lifts = set.intersection(*(set(row.lifts) for row in rows))
    rows = [
        Observation(
            row.data_set, row.variant, row.pool, row.measures, {k: row.lifts[k] for k in lifts}
        )
        for row in rows
    ]
    measures = sorted(set.union(*(set(row.measures) for row in rows)))
    lines = study_tables(rows, measures, fallback=options.fallback, seed=0)
    uri = store.absolute(f"{options.out}/health.md")
    store.write_bytes(uri, "\n".join([*lines, ""]).encode())
    reporter.say("\n".join([*lines, f"tables in {uri}"]))


def _observed(store: Store, options: argparse.Namespace, run: str) -> list[Observation]:
    """Return the observations of a run, from `--out` when they are there."""
    key = digest_json([store.absolute(run), options.no_assess])
    uri = store.absolute(f"{options.out}/observations/{key}.json")
    if store.exists(uri):
        return [Observation(**row) for row in json.loads(store.read_bytes(uri))]
    config = _config_of(store, run)
    with ray_session(config.ray):
        rows = list(_observe(store, config, assess_again=not options.no_assess))
    if rows:  # a run that is not finished may be later
        store.write_bytes(uri, json.dumps([asdict(row) for row in rows]).encode())
    return rows


def _config_of(store: Store, run: str) -> Config:
    """Return the configuration that a run was started with."""
    uri = store.join(store.absolute(run), "spec.json")
    try:
        spec: dict[str, Any] = json.loads(store.read_bytes(uri))
    except FileNotFoundError as error:
        raise DataError(f"{run} must be the folder of a run; it has no spec.json.") from error
    return build_config(spec["spec"]["config"] | {"out": run})


def _observe(store: Store, config: Config, *, assess_again: bool) -> Iterator[Observation]:
    if config.archive.long_tail is None:
        raise DataError(f"{config.out} must have archive.long_tail with a holdout; it has none.")
    ledger = Ledger(store, store.absolute(config.out))
    context = RunContext(config, store, ledger, Reporter(quiet=True))
    if ledger.read_commit(context.round_name(0)) is None:
        return
    data_set = re.split(r"[/\\]", config.archive.uri.rstrip("/"))[-1].partition(".")[0]
    for index, scored in enumerate(score_run(config, "", 0)):
        health = dict(scored.commit["health"])
        if OF_VIEWS not in health and assess_again:
            catalog = build_catalog(context, *discover_sources(store, config.archive))
            health = assess(context, catalog, scored.encoder)["health"]
        if OF_VIEWS not in health:
            health |= _structure(scored)
        yield Observation(
            data_set,
            _variant(config) + (f", round {index}" if index else ""),
            config.archive.long_tail.seed,
            _numbers(health),
            _numbers(
                {
                    name: value
                    for row in scored.rows
                    if row.method not in (RANDOM, ORACLE)
                    for name, value in (
                        (f"accuracy of {row.method}", row.gain),
                        (f"balance of {row.method}", 1 - row.std_ratio),
                    )
                }
            ),
        )


def _structure(scored: ScoredRound) -> dict[str, float | None]:
    """Measure a sample of the stored embeddings."""
    sample = lowest_hashes(scored.ids, HEALTH_TILES, seed=0)
    rows = unit_rows(scored.features[sample])
    return asdict(structure_of(rows, health_centroids(rows)))


def _numbers(health: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in health.items()
        if name not in NOT_MEASURES and value is not None and math.isfinite(value)
    }


def _variant(config: Config) -> str:
    encoder = config.encoder
    name = f"{encoder.kind} {encoder.backbone} {encoder.image_size} px"
    if encoder.kind == "frozen":
        kwargs = json.dumps(encoder.factory_kwargs, sort_keys=True)
        return f"{name} {digest_json([encoder.factory, kwargs, encoder.weights])[:6]}"
    return f"{name} {config.training.epochs} epochs"


if __name__ == "__main__":
    main()
