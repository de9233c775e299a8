r"""Do augmented repeats, or hard triplets, help rare classes? Trains on pixels, in one process.

    python -m jobs.pixel_study --archive ucmerced.zip --out runs/pixels --image-size 64 \
        --pools 5 --seeds 5 --epochs 10

makes a long-tailed pool of the class folders of a folder or zip for every number of a pool, holds a
balanced test set out, trains every arm of `balancer.comparison.pixel_study` on it and prints their
means, differences from exact copies, and tests. Scores are kept under `--out`: running it again
computes what is missing. `--device cuda` trains on a GPU.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import numpy as np

from balancer.cli import exit_with_codes
from balancer.comparison.pixel_study import (
    ARMS,
    LabeledReader,
    PixelCase,
    PixelScore,
    score_pixel_arm,
    summarize_pixel_arms,
)
from balancer.comparison.pixel_training import PixelSettings
from balancer.comparison.triplet_training import TripletSettings
from balancer.config import EncoderConfig, LongTailConfig, digest_json
from balancer.embedding.backbones import build_backbone
from balancer.imbalance.labels import label_table
from balancer.imbalance.long_tail import long_tailed_pool
from balancer.stages.progress import Reporter
from balancer.storage.filesystem import Store
from balancer.storage.tile_arrays import LabeledTiles, read_labeled_tiles
from balancer.types import IntArray


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, train what is missing, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m jobs.pixel_study", description=__doc__)
    parser.add_argument("--archive", required=True, help="folder or zip, one folder per class")
    parser.add_argument("--out", required=True, help="folder for scores and table")
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS))
    parser.add_argument("--backbone", default="small-conv", help="as encoder.backbone of a run")
    parser.add_argument("--width", type=int, default=32, help="as encoder.width of a run")
    parser.add_argument("--weights", help="pretrained, for torchvision and timm")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--imbalance", type=float, default=10.0)
    parser.add_argument("--largest", type=int, default=80)
    parser.add_argument("--holdout", type=int, default=20, help="test tiles per class")
    parser.add_argument("--pools", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--encoder-lr", type=float, default=1e-3)
    parser.add_argument("--triplet-updates", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    exit_with_codes(lambda: _study(options))


def _study(options: argparse.Namespace) -> None:
    store, reporter = Store(), Reporter()
    archive = read_labeled_tiles(store, options.archive, options.image_size)
    facts = {key: value for key, value in vars(options).items() if key != "device"}
    scores = []
    for pool in range(options.pools):
        tail = LongTailConfig(
            imbalance=options.imbalance,
            largest=options.largest,
            holdout=options.holdout,
            seed=pool,
        )
        rows = long_tailed_pool(archive.ids, archive.labels, tail)
        case = _case(options, pool, archive, rows)
        for seed in range(options.seeds):
            for arm in options.arms:
                cell = facts | {"arm": arm, "pool": pool, "seed": seed, "arms": [], "out": ""}
                cell |= {"pools": 0, "seeds": 0}
                uri = store.absolute(f"{options.out}/scores/{digest_json(cell)}.json")
                if not store.exists(uri):
                    found = _train(options, case, arm, seed)
                    store.write_bytes(uri, json.dumps(asdict(found)).encode())
                scores.append(PixelScore(**json.loads(store.read_bytes(uri))))
                reporter.say(f"pool {pool} seed {seed} {arm}: {scores[-1].macro_recall:.3f}")
    lines = summarize_pixel_arms(scores)
    store.write_bytes(store.absolute(f"{options.out}/pixels.md"), "\n".join([*lines, ""]).encode())
    reporter.say("\n".join(lines))


def _case(
    options: argparse.Namespace,
    pool: int,
    archive: LabeledTiles,
    rows: tuple[IntArray, IntArray],
) -> PixelCase:
    settings = PixelSettings(
        epochs=options.epochs, encoder_lr=options.encoder_lr, device=options.device
    )
    triplets = TripletSettings(
        num_updates=options.triplet_updates,
        pixels=settings.model_copy(update={"augment": "all"}),
    )
    train, test = (_part(archive, part) for part in rows)
    return PixelCase(pool, train, test, settings, triplets)


def _train(options: argparse.Namespace, case: PixelCase, arm: str, seed: int) -> PixelScore:
    encoder = EncoderConfig(
        backbone=options.backbone,
        width=options.width,
        weights=options.weights,
        image_size=options.image_size,
    )
    return score_pixel_arm(arm, case, build_backbone(encoder, seed=seed), seed)


def _part(archive: LabeledTiles, rows: IntArray) -> LabeledReader:
    tiles, names = archive.tiles[rows], archive.labels[rows]
    classes = np.unique(archive.labels).tolist()
    labels = label_table(archive.ids[rows], [[name] for name in names.tolist()], classes=classes)
    return LabeledReader(lambda chosen: tiles[chosen], labels)


if __name__ == "__main__":
    main()
