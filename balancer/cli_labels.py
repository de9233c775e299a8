"""Commands on labeled tiles; `balancer.cli` registers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from balancer.config import StorageConfig
from balancer.errors import ConfigError

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key.")
]
EndpointUrl = Annotated[str | None, typer.Option(help="S3 endpoint; AWS_ENDPOINT_URL when absent.")]


def compare(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/compare-*.yaml.")],
    overrides: Overrides = None,
    out: Annotated[str | None, typer.Option(help="Folder: a path or s3:// URI.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="local, auto, or ray://host:port.")
    ] = None,
) -> None:
    """Compare strategies against imbalance on labeled images: tables, figures, verdicts."""
    compare_labeled(config, overrides or [], named_values(out, ray_address))


def compare_labeled(config: Path, overrides: list[str], values: dict[str, str]) -> None:
    """Run a labeled comparison, or continue it, write its tables and page, print the verdicts."""
    from balancer.comparison.labeled_comparison import run_comparison
    from balancer.comparison.labeled_summary import describe_comparison, write_summary
    from balancer.config_comparison import ComparisonConfig
    from balancer.config_file import load_model
    from balancer.report.comparison_page import write_comparison_report
    from balancer.storage.filesystem import Store

    settings = load_model(ComparisonConfig, config, overrides, values)
    compared = run_comparison(settings)
    store = Store(settings.storage)
    facts = write_summary(store, compared)
    report = write_comparison_report(store, compared.uri)
    for line in describe_comparison(facts):
        typer.echo(line)
    typer.echo(f"results   {store.join(compared.uri, 'results.parquet')}")
    typer.echo(f"report    {report}")


def named_values(out: str | None, ray_address: str | None) -> dict[str, str]:
    """Return the named options that were given, by configuration key."""
    named = {"out": out, "ray.address": ray_address}
    return {key: value for key, value in named.items() if value is not None}


def imbalance(  # noqa: PLR0913 - typer turns each option into an argument
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="CSV or Parquet with labels, or a folder or zip of images in class folders.",
        ),
    ],
    labels_column: Annotated[
        str | None, typer.Option(help="Column with the labels; tags, labels, label or class.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column with the ids; image_name, tile_id, id ...")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Between several labels; spaces in tags and labels.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Embeddings of the tiles: .npy in order, or Parquet."),
    ] = None,
    predictions_column: Annotated[
        str | None, typer.Option(help="Column with predicted labels, for pairs by confusion.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Metadata column; may repeat.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Low-frequency classes: percentile_25 or tenth_of_max.")
    ] = "percentile_25",
    out: Annotated[str | None, typer.Option(help="Report to write: .html or .json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Show how imbalanced labels are: classes, confusable pairs, groups."""
    from balancer.report.imbalance_text import diagnosis_json, diagnosis_tables
    from balancer.report.label_diagnosis import DiagnosisRequest, diagnose_table, write_diagnosis
    from balancer.storage.filesystem import Store

    if out is not None and not out.lower().endswith((".html", ".json")):
        raise ConfigError(f"--out must end in .html or .json; got {out}. Name it so.")
    store = Store(StorageConfig(endpoint_url=endpoint_url))
    found = diagnose_table(
        DiagnosisRequest(
            uri=table,
            labels_column=labels_column,
            id_column=id_column,
            separator=separator,
            features=features,
            predictions_column=predictions_column,
            groups=tuple(group or ()),
            rule=rule,
        ),
        store,
    )
    if as_json:
        typer.echo(json.dumps(diagnosis_json(found), indent=1, allow_nan=False))
    else:
        console = Console(highlight=False)
        for text in diagnosis_tables(found):
            drawn = Table(title=text.title, title_justify="left")
            for place, heading in enumerate(text.headings):
                drawn.add_column(heading, justify="left" if place < text.num_names else "right")
            for row in text.rows:
                drawn.add_row(*row)
            console.print(drawn, markup=False)
    if out is not None:
        write_diagnosis(store, found, out, source=table)
        if not as_json:
            typer.echo(f"report: {out}")
