r"""What balancing buys on a labeled archive: pools x rounds x strategies, beside random and oracle.

    python -m jobs.balance_study --config configs/ucmerced.yaml --set archive.uri=ucmerced.zip \
        --pools 5 --name simclr --out runs/study

Each pool is one run of the main job with its own `archive.long_tail.seed`; the strategies of
`measures.compare` are scored beside the configured one, on the same embeddings. `--vary KEY=A,B`
repeats everything for several values of one key (such as `training.epochs=5,10,20`). Labels only
make the pools and the scores. Running it again continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from balancer.cli import exit_with_codes
from balancer.comparison.balance_study import (
    FALLBACK,
    ORACLE,
    RANDOM,
    LabeledRows,
    StudyRow,
    class_balanced_ids,
    study_round,
    summarize,
)
from balancer.config import Config
from balancer.config_file import load_config
from balancer.rounds.runner import run_rounds
from balancer.rounds.state import state_from_json
from balancer.seeding import derive_seed
from balancer.stages.catalog import build_catalog, discover_sources
from balancer.stages.context import RunContext
from balancer.stages.holdout import embed_holdout, labels_of, read_round
from balancer.stages.progress import Reporter
from balancer.stages.resources import ray_session
from balancer.stages.select import SELECTED
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger, Record
from balancer.storage.selections import read_selections
from balancer.storage.tables import read_table, write_table
from balancer.types import EncoderRef, FloatArray, IdArray


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run every pool, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m jobs.balance_study", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--pools", type=int, default=5)
    parser.add_argument("--name", required=True, help="what to call this encoder in the table")
    parser.add_argument("--vary", default=None, metavar="KEY=A,B")
    parser.add_argument("--out", required=True, help="folder for the runs and the table")
    options = parser.parse_args(arguments)
    exit_with_codes(lambda: _study(options))


def _study(options: argparse.Namespace) -> None:
    rows: list[StudyRow] = []
    key, _, values = (options.vary or "").partition("=")
    for value in values.split(",") if options.vary else [""]:
        variant = f"{options.name} {key.rpartition('.')[2]}={value}" if value else options.name
        changed = [f"{key}={value}"] if value else []
        for pool in range(options.pools):
            folder = f"{options.out}/{variant.replace(' ', '-')}-pool-{pool}"
            seeds = [f"archive.long_tail.seed={pool}", f"seed={pool}"]
            config = load_config(
                options.config, [*options.overrides, *changed, *seeds], {"out": folder}
            )
            with ray_session(config.ray):
                run_rounds(config)
                for scored in score_run(config, variant, pool):
                    rows += scored.rows
    lines = summarize(rows)
    store = Store()
    table = pa.Table.from_pylist([asdict(row) for row in rows])
    uri = store.absolute(f"{options.out}/{options.name}.parquet")
    write_table(store, uri, table)
    store.write_bytes(uri.replace(".parquet", ".md"), "\n".join([*lines, ""]).encode())
    Reporter().say("\n".join([*lines, f"rows in {uri}"]))


@dataclass(frozen=True, slots=True)
class ScoredRound:
    """A finished round: its commit, its embeddings, and the scores of its selections."""

    commit: Record
    encoder: EncoderRef
    ids: IdArray
    features: FloatArray
    rows: list[StudyRow]


def score_run(config: Config, variant: str, pool: int) -> Iterator[ScoredRound]:
    """Score each finished round of a run; Ray must be connected."""
    store = Store(config.storage)
    ledger = Ledger(store, store.absolute(config.out))
    context = RunContext(config, store, ledger, Reporter(quiet=True))
    catalog = build_catalog(context, *discover_sources(store, config.archive))
    for index in range(config.rounds):
        payload = ledger.read_commit(context.round_name(index))
        if payload is None:
            break
        state = state_from_json(payload, ledger)
        assert state.encoder is not None  # the round is committed
        normalize = config.embedding.normalize
        ids, features = read_round(store, state, normalize=normalize)
        tiles = LabeledRows(ids, features, labels_of(store, catalog, ids))
        test = LabeledRows(*embed_holdout(ledger, config, state.encoder))
        picks = payload["selections"]
        found = read_selections(
            read_table(store, ledger.absolute(picks["path"]), sha256=picks["sha256"])
        )
        budget = len(found[SELECTED])
        repeats = {
            RANDOM: [p.tile_ids for name, p in found.items() if name.startswith(f"{RANDOM}-")],
            ORACLE: [
                class_balanced_ids(ids, tiles.labels, budget, derive_seed(pool, ORACLE, repeat))
                for repeat in range(config.measures.compare_repeats)
            ],
        }
        own = FALLBACK if payload.get("fallback") else config.selection.strategy
        plain = {
            own if name == SELECTED else name: [picked.tile_ids]
            for name, picked in found.items()
            if not name.startswith(RANDOM)
        }
        rows = study_round(
            tiles, test, repeats | plain, variant=variant, pool_number=pool, round_index=index
        )
        yield ScoredRound(payload, state.encoder, ids, features, rows)


if __name__ == "__main__":
    main()
