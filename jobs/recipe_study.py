r"""Which selection recipe closes most of the gap between random and class-balanced picks?

    python -m jobs.recipe_study --out runs/recipes --classes 21 --tune 0,1,2,3,4 \
        --report 5,6,7,8,9,10,11 runs/study/simclr-pool-*

reads finished runs of a labeled archive with a holdout (`archive.long_tail`, as those of
`jobs.balance_study`), one per pool, and tries every recipe on the embeddings of their first round.
`--recipe 'NAME: {strategy: per-cluster, num_clusters: 40}'` adds one to the known ones; its keys
are those of `selection` and `clustering`. A run's variant in the tables is the name of the folder
it lies in. Labels never reach a recipe. Scores and embedded holdouts are kept under `--out`:
running it again, with more runs or recipes, computes what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from balancer.cli import exit_with_codes
from balancer.comparison.balance_study import ORACLE, RANDOM, LabeledRows
from balancer.comparison.recipe_study import (
    Case,
    RecipeScore,
    best_recipe,
    score_baseline,
    score_recipe,
    summarize_scores,
)
from balancer.comparison.recipes import Recipe, known_recipes, make_recipe
from balancer.config import Config, digest_json
from balancer.config_file import build_config
from balancer.errors import ConfigError, DataError
from balancer.rounds.state import state_from_json
from balancer.stages.catalog import build_catalog, discover_sources
from balancer.stages.context import RunContext
from balancer.stages.holdout import embed_holdout, labels_of, read_round
from balancer.stages.progress import Reporter
from balancer.stages.resources import ray_session
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, score every run, print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m jobs.recipe_study", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", required=True, help="folder for scores and tables")
    parser.add_argument("--classes", type=int, required=True, help="C of the recipes K=C")
    parser.add_argument("--recipe", action="append", default=[], metavar="NAME: {KEY: VALUE}")
    parser.add_argument("--only", action="append", default=[], help="of all recipes, only these")
    parser.add_argument("--shares", type=_floats, default=[0.15], metavar="A,B")
    parser.add_argument("--seeds", type=int, default=3, help="picks per recipe and pool")
    parser.add_argument("--tune", type=_integers, default=[], metavar="POOLS")
    parser.add_argument("--report", type=_integers, default=[], metavar="POOLS")
    parser.add_argument("--against", default="medoid", help="compare with this recipe")
    options = parser.parse_args(arguments)
    exit_with_codes(lambda: _study(options))


def _study(options: argparse.Namespace) -> None:
    store, reporter = Store(), Reporter()
    recipes = _recipes(options)
    scores: list[RecipeScore] = []
    for done, run in enumerate(options.runs):
        scores += _scores_of(store, run, recipes, options)
        reporter.say(f"{done + 1} of {len(options.runs)} runs scored")
    lines = []
    if options.tune:
        best = best_recipe(scores, options.tune)
        lines += [f"Best on the pools to tune on ({options.tune}): {best}.", ""]
    report = options.report or sorted({score.pool for score in scores} - set(options.tune))
    lines += [f"Pools reported: {report}.", ""]
    lines += summarize_scores(scores, report, against=options.against)
    uri = store.absolute(f"{options.out}/recipes.parquet")
    write_table(store, uri, pa.Table.from_pylist([asdict(score) for score in scores]))
    store.write_bytes(uri.replace(".parquet", ".md"), "\n".join([*lines, ""]).encode())
    reporter.say("\n".join([*lines, f"rows in {uri}"]))


def _recipes(options: argparse.Namespace) -> list[Recipe]:
    recipes = {recipe.name: recipe for recipe in known_recipes(options.classes)}
    for text in options.recipe:
        named = yaml.safe_load(text)
        if not isinstance(named, dict) or not all(isinstance(v, dict) for v in named.values()):
            raise ConfigError(
                f"--recipe must be 'NAME: {{key: value}}'; got {text!r}. Mind the space after the "
                f"colons."
            )
        for name, settings in named.items():
            recipes[str(name)] = make_recipe(str(name), settings)
    unknown = sorted(set(options.only) - set(recipes))
    if unknown:
        raise ConfigError(f"--only must name recipes among {sorted(recipes)}; got {unknown}.")
    return [recipe for name, recipe in recipes.items() if name in (options.only or recipes)]


def _scores_of(
    store: Store, run: str, recipes: Sequence[Recipe], options: argparse.Namespace
) -> Iterator[RecipeScore]:
    """Yield the scores of one run; those that are stored are not computed again."""
    config = _config_of(store, run)
    if config.archive.long_tail is None:
        raise DataError(f"{run} must have archive.long_tail with a holdout; it has none.")
    variant = store.absolute(run).rstrip("/").split("/")[-2]
    seed = config.archive.long_tail.seed
    rows: tuple[LabeledRows, LabeledRows] | None = None
    for share in options.shares:
        tried: list[str | Recipe] = [RANDOM, ORACLE, *recipes]
        for recipe in tried:
            what = recipe if isinstance(recipe, str) else [asdict(recipe), options.seeds]
            key = digest_json([store.absolute(run), share, what])
            uri = store.absolute(f"{options.out}/scores/{key}.json")
            if store.exists(uri):
                yield RecipeScore(**json.loads(store.read_bytes(uri)))
                continue
            rows = rows or _read_run(store, config, options.out)
            case = Case(variant, seed, share, *rows)
            score = (
                score_baseline(case, recipe)
                if isinstance(recipe, str)
                else score_recipe(case, recipe, options.seeds)
            )
            store.write_bytes(uri, json.dumps(asdict(score)).encode())
            yield score


def _config_of(store: Store, run: str) -> Config:
    """Return the configuration that a run was started with."""
    uri = store.join(store.absolute(run), "spec.json")
    if not store.exists(uri):
        raise DataError(f"{run} must be the folder of a run; it has no spec.json.")
    spec: dict[str, Any] = json.loads(store.read_bytes(uri))
    return build_config(spec["spec"]["config"] | {"out": run})


def _read_run(store: Store, config: Config, out: str) -> tuple[LabeledRows, LabeledRows]:
    """Return the pool of a run's first round and the test set, in its embedding."""
    ledger = Ledger(store, store.absolute(config.out))
    context = RunContext(config, store, ledger, Reporter(quiet=True))
    payload = ledger.read_commit(context.round_name(0))
    if payload is None:
        raise DataError(f"{config.out} must have finished a round; it has not. Run it first.")
    state = state_from_json(payload, ledger)
    assert state.encoder is not None  # the round is committed
    key = digest_json([ledger.absolute(""), state.encoder.fingerprint])
    uri = store.absolute(f"{out}/holdouts/{key}.parquet")
    with ray_session(config.ray):
        catalog = build_catalog(context, *discover_sources(store, config.archive))
        if not store.exists(uri):
            ids, features, labels = embed_holdout(ledger, config, state.encoder)
            columns = {"tile_id": ids.tolist(), "embedding": list(features), "label": labels}
            write_table(store, uri, pa.table(columns))
    ids, features = read_round(store, state, normalize=config.embedding.normalize)
    table = read_table(store, uri)
    test = LabeledRows(
        np.array(table["tile_id"].to_pylist()),
        np.array(table["embedding"].to_pylist(), dtype=np.float32),
        np.array(table["label"].to_pylist()),
    )
    return LabeledRows(ids, features, labels_of(store, catalog, ids)), test


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
