r"""Which selection recipe closes most of the gap between random and class-balanced picks?

    python -m jobs.recipe_study --out runs/recipes --classes 21 --tune 0,1,2,3,4 \
        --report 5,6,7,8,9,10,11 runs/study/simclr-pool-*

reads finished runs of a labeled archive with a holdout (`archive.long_tail`, as those of
`jobs.balance_study`), one per pool, and tries every recipe on the embeddings of their first round.
`--recipe 'NAME: {strategy: per-cluster, num_clusters: 40}'` adds one to the known ones; its keys
are those of `selection` and `clustering`. A run's variant in the tables is the name of the folder
it lies in. Labels never reach a recipe. Scores and embedded holdouts are kept under `--out`:
running it again, with more runs or recipes, computes what is missing.

A frozen encoder embeds a tile alike whatever the pool, so one run over the whole archive, without
`archive.long_tail`, does for all pools: `--cut 0,1,2 --largest 80 --imbalance 10 --holdout 20` cuts
them from its embeddings by the recipe of `archive.long_tail`, one for each seed.
"""

from __future__ import annotations

import argparse
import itertools
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
from balancer.config import Config, LongTailConfig, digest_json
from balancer.config_file import build_config
from balancer.errors import ConfigError, DataError
from balancer.imbalance.long_tail import long_tailed_pool
from balancer.rounds.state import state_from_json
from balancer.stages.catalog import build_catalog, discover_sources
from balancer.stages.context import RunContext
from balancer.stages.holdout import embed_holdout, labels_of, read_round
from balancer.stages.progress import Reporter
from balancer.stages.resources import ray_session
from balancer.storage.filesystem import Store
from balancer.storage.ledger import Ledger
from balancer.storage.tables import read_table, write_table
from balancer.types import RoundState


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
    parser.add_argument("--cut", type=_integers, default=[], metavar="SEEDS")
    tail = LongTailConfig()
    parser.add_argument("--largest", type=int, default=tail.largest, help="of pools that are cut")
    parser.add_argument("--imbalance", type=float, default=tail.imbalance)
    parser.add_argument("--holdout", type=int, default=tail.holdout)
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
    variant = store.absolute(run).rstrip("/").split("/")[-2]
    whole: LabeledRows | None = None
    for tail in _tails(config, options):
        rows: tuple[LabeledRows, LabeledRows] | None = None
        cut = None if config.archive.long_tail else tail.model_dump(mode="json")
        methods: list[str | Recipe] = [RANDOM, ORACLE, *recipes]
        for share, recipe in itertools.product(options.shares, methods):
            what = recipe if isinstance(recipe, str) else [asdict(recipe), options.seeds]
            key = digest_json([store.absolute(run), share, what, *([cut] if cut else [])])
            uri = store.absolute(f"{options.out}/scores/{key}.json")
            if store.exists(uri):
                yield RecipeScore(**json.loads(store.read_bytes(uri)))
                continue
            if rows is None and cut:
                whole = whole or _read_whole(store, config)
                rows = _cut(whole, tail)
            rows = rows or _read_run(store, config, options.out)
            case = Case(variant, tail.seed, share, *rows)
            score = (
                score_baseline(case, recipe)
                if isinstance(recipe, str)
                else score_recipe(case, recipe, options.seeds)
            )
            store.write_bytes(uri, json.dumps(asdict(score)).encode())
            yield score


def _tails(config: Config, options: argparse.Namespace) -> list[LongTailConfig]:
    """Return the pool of a run, or the pools to cut from a run of a whole archive."""
    if config.archive.long_tail is not None:
        return [config.archive.long_tail]
    if not options.cut:
        raise DataError(
            f"{config.out} must have archive.long_tail with a holdout; it has none. Give --cut to "
            f"cut pools from it."
        )
    if options.holdout < 1:
        raise ConfigError(f"--holdout must be at least 1; got {options.holdout}.")
    sizes = {"largest": options.largest, "imbalance": options.imbalance}
    return [LongTailConfig(**sizes, holdout=options.holdout, seed=seed) for seed in options.cut]


def _cut(whole: LabeledRows, tail: LongTailConfig) -> tuple[LabeledRows, LabeledRows]:
    """Return a long-tailed pool of an archive, and its test set."""
    pool, test = long_tailed_pool(whole.ids, whole.labels, tail)
    return (
        LabeledRows(whole.ids[pool], whole.features[pool], whole.labels[pool]),
        LabeledRows(whole.ids[test], whole.features[test], whole.labels[test]),
    )


def _config_of(store: Store, run: str) -> Config:
    """Return the configuration that a run was started with."""
    uri = store.join(store.absolute(run), "spec.json")
    if not store.exists(uri):
        raise DataError(f"{run} must be the folder of a run; it has no spec.json.")
    spec: dict[str, Any] = json.loads(store.read_bytes(uri))
    return build_config(spec["spec"]["config"] | {"out": run})


def _read_whole(store: Store, config: Config) -> LabeledRows:
    """Return the tiles of a run's first round."""
    context, state = _first_round(store, config)
    with ray_session(config.ray):
        catalog = build_catalog(context, *discover_sources(store, config.archive))
    ids, features = read_round(store, state, normalize=config.embedding.normalize)
    return LabeledRows(ids, features, labels_of(store, catalog, ids))


def _first_round(store: Store, config: Config) -> tuple[RunContext, RoundState]:
    ledger = Ledger(store, store.absolute(config.out))
    context = RunContext(config, store, ledger, Reporter(quiet=True))
    payload = ledger.read_commit(context.round_name(0))
    if payload is None:
        raise DataError(f"{config.out} must have finished a round; it has not. Run it first.")
    return context, state_from_json(payload, ledger)


def _read_run(store: Store, config: Config, out: str) -> tuple[LabeledRows, LabeledRows]:
    """Return the pool of a run's first round and the test set, in its embedding."""
    context, state = _first_round(store, config)
    ledger = context.ledger
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
