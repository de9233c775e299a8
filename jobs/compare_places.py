"""What the jobs that compare on a published data set share: its places as options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from balancer.cli import exit_with_codes, stoppable
from balancer.cli_labels import Overrides, compare_labeled, named_values

CONFIGS = Path(__file__).parents[1] / "configs"


def run_job(name: str) -> None:
    """Run `configs/<name>` on the images and labels that the command line names.

    Exits with the codes of the command line.
    """

    @stoppable()
    def main(
        images: Annotated[str, typer.Option(help="Folder of images, tar or S3 prefix.")],
        labels: Annotated[str, typer.Option(help="File with the published labels.")],
        out: Annotated[str, typer.Option(help="Folder for results: a path or s3:// URI.")],
        config: Annotated[Path, typer.Option(help="YAML file.")] = CONFIGS / name,
        overrides: Overrides = None,
        ray_address: Annotated[
            str | None, typer.Option(help="local, auto, ray://host:port.")
        ] = None,
    ) -> None:
        """Compare on the images and labels that are named, beside what the file says."""
        places = {"dataset.images": images, "dataset.labels": labels}
        compare_labeled(config, overrides or [], named_values(out, ray_address) | places)

    exit_with_codes(lambda: typer.run(main))
