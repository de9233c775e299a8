r"""The main job on a Ray cluster.

    ray job submit --working-dir . -- python -m jobs.balance --config my.yaml \
        --set archive.uri=s3://bucket/tiles --out s3://bucket/runs/first

Archive and run folder must be URIs or absolute paths that all nodes share. In a submitted job the
driver runs on the cluster, so `--ray-address auto` (the default here) joins it. Submitting the same
command again continues the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from balancer.cli import exit_with_codes, run


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run the rounds."""
    parser = argparse.ArgumentParser(prog="python -m jobs.balance", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file; see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--out", default=None, help="run folder: a path or s3:// URI")
    parser.add_argument("--ray-address", default="auto", help="auto, local, or ray://host:port")
    options = parser.parse_args(arguments)
    exit_with_codes(
        lambda: run(options.config, options.overrides, options.out, options.ray_address)
    )


if __name__ == "__main__":
    main()
