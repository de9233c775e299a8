r"""The labeled comparison on ADE20K scenes: python -m jobs.compare_ade20k --images ... .

    ray job submit -- python -m jobs.compare_ade20k --images s3://bucket/images \
        --labels s3://bucket/sceneCategories.txt --out s3://bucket/compare-ade20k --ray-address auto

`balancer compare configs/compare-ade20k.yaml` with the two places of the data as options. Started
again it computes what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from balancer.cli import exit_with_codes, stoppable
from balancer.cli_labels import Overrides, compare_labeled, named_values

CONFIG = Path(__file__).parents[1] / "configs" / "compare-ade20k.yaml"


@stoppable()
def main(
    images: Annotated[str, typer.Option(help="Folder images, tar or S3 prefix.")],
    labels: Annotated[str, typer.Option(help="sceneCategories.txt.")],
    out: Annotated[str, typer.Option(help="Folder for results: a path or s3:// URI.")],
    config: Annotated[Path, typer.Option(help="YAML file.")] = CONFIG,
    overrides: Overrides = None,
    ray_address: Annotated[str | None, typer.Option(help="local, auto, ray://host:port.")] = None,
) -> None:
    """Compare on the images and labels that are named, beside what the file says."""
    places = {"dataset.images": images, "dataset.labels": labels}
    compare_labeled(config, overrides or [], named_values(out, ray_address) | places)


if __name__ == "__main__":
    exit_with_codes(lambda: typer.run(main))
