"""Render synthetic tiles from Planet's real label rows, where its images are not at hand.

python -m jobs.render_planet --labels train_v2.csv --out FOLDER|FILE.tar [--limit N] [--seed 0]

A folder gets tar shards of 1,024 tiles, which are embedded in parallel. Every tile is a JPEG of 64
pixels called as its row; the same labels and seed give the same bytes. About 10 minutes of one
core for the 40,479 rows. Set `dataset.synthetic: true` where they are compared.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from typing import Annotated

import typer

from balancer.cli import exit_with_codes, stoppable
from balancer.comparison.labeled_data import PLANET_HELP
from balancer.config import RayConfig
from balancer.demo.planet_scenes import render_planet_jpeg
from balancer.stages.progress import Reporter
from balancer.stages.resources import ray_session
from balancer.stages.tasks import run_tasks
from balancer.storage.filesystem import Store
from balancer.storage.labeled_sources import parse_planet, read_text

SHARD_TILES = 1024


@stoppable()
def main(
    labels: Annotated[str, typer.Option(help="Planet's train_v2.csv.")],
    out: Annotated[str, typer.Option(help="Folder for tar shards, or one .tar file.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Of the rendering.")] = 0,
) -> None:
    """Render the tiles on Ray, a shard's worth per task, and write them in order."""
    store, reporter = Store(), Reporter()
    rows = parse_planet(read_text(store, labels, PLANET_HELP), labels)
    named = list(zip(rows.names, rows.labels, strict=True))[:limit]
    starts = range(0, len(named), SHARD_TILES)
    tasks = [(named[start : start + SHARD_TILES], seed) for start in starts]
    whole: dict[int, bytes] = {}
    single = out.lower().endswith(".tar")
    with ray_session(RayConfig()), reporter.task("render", len(named), "tiles") as advance:
        for number, jpegs in run_tasks(render_rows, tasks):
            names = [name for name, _ in tasks[number][0]]
            members = tar_members(names, jpegs)
            if single:
                whole[number] = members
            else:
                uri = store.join(store.absolute(out), f"shard-{number:03d}.tar")
                store.write_bytes(uri, closed(members))
            advance(len(names), "")
    if single:
        store.write_bytes(out, closed(b"".join(whole[number] for number in sorted(whole))))
    typer.echo(f"{len(named)} synthetic tiles: {out}")


def render_rows(rows: Sequence[tuple[str, Sequence[str]]], seed: int) -> list[bytes]:
    """Return the JPEGs of some rows (runs on a worker)."""
    return [render_planet_jpeg(name, labels, seed) for name, labels in rows]


def tar_members(names: Sequence[str], jpegs: Sequence[bytes]) -> bytes:
    """Return tar members without the end mark; headers depend on nothing but the tile."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, jpeg in zip(names, jpegs, strict=True):
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size, member.mode = len(jpeg), 0o644
            tar.addfile(member, io.BytesIO(jpeg))
        end = tar.offset
    return buffer.getvalue()[:end]


def closed(members: bytes) -> bytes:
    """Return a complete tar: the members, two zero blocks, filled up to a whole record."""
    size = len(members) + 2 * tarfile.BLOCKSIZE
    return members.ljust(-(-size // tarfile.RECORDSIZE) * tarfile.RECORDSIZE, b"\0")


if __name__ == "__main__":
    exit_with_codes(lambda: typer.run(main))
