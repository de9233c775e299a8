"""Commands on embeddings and manifests that exist; `balancer.cli` registers them."""

from __future__ import annotations

import json
from typing import Annotated, get_args

import typer

from balancer.cli_labels import EndpointUrl
from balancer.config import StorageConfig, Strategy
from balancer.config_selection import FilterName
from balancer.errors import VerificationError


def select(  # noqa: PLR0913 - typer turns each option into an argument
    embeddings: Annotated[str, typer.Argument(help="A .npy matrix, or Parquet file or folder.")],
    budget: Annotated[
        float, typer.Option(help="How many rows to pick, or a share of them when below 1.")
    ],
    out: Annotated[str, typer.Option(help="Parquet file to write.")],
    strategy: Annotated[
        str, typer.Option(help=f"{', '.join(get_args(Strategy))}.")
    ] = "hybrid-medoid",
    seed: Annotated[int, typer.Option(help="Decides first picks and clusters.")] = 0,
    within: Annotated[
        str, typer.Option(help="Inside a cluster: farthest-point, medoid, nearest, random.")
    ] = "farthest-point",
    epsilon: Annotated[
        float, typer.Option(help="For composable-epsilon: within 2 + epsilon of the optimum.")
    ] = 0.5,
    coreset_rows: Annotated[
        int | None,
        typer.Option(help="For composable-epsilon: most rows a shard sends."),
    ] = None,
    include: Annotated[
        str | None, typer.Option(help="File with ids to pick in any case: text, CSV or Parquet.")
    ] = None,
    exclude: Annotated[str | None, typer.Option(help="File with ids never to pick.")] = None,
    quality_column: Annotated[
        str | None,
        typer.Option(help="Column of numbers above 0 that multiply farthest-point's distances."),
    ] = None,
    num_outliers: Annotated[
        int, typer.Option(help="For farthest-point: leave out so many of the farthest rows.")
    ] = 0,
    device: Annotated[
        str, typer.Option(help="For farthest-point's rows and bounds: cpu, or cuda.")
    ] = "auto",
    filter_name: Annotated[
        str,
        typer.Option("--filter", help=f"What spares the CPU: {', '.join(get_args(FilterName))}."),
    ] = "blas",
    num_clusters: Annotated[int | None, typer.Option(help="From the budget when absent.")] = None,
    normalize: Annotated[bool, typer.Option(help="L2-normalise the rows first.")] = True,
    id_column: Annotated[str, typer.Option(help="Parquet column with the ids.")] = "tile_id",
    vector_column: Annotated[str, typer.Option(help="Parquet column of vectors.")] = "embedding",
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Parquet file for every row's weight.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of a run's selection or clustering that has no option here, such as "
            "selection.quotas.cap=50, selection.quotas.alpha=0.5, "
            "selection.quotas.axes='{biome: uniform}' (a Parquet column), "
            "clustering.iterations=50.",
        ),
    ] = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Pick a balanced subset of embeddings that you already have."""
    from balancer.rounds.embeddings_only import EmbeddingsRequest, select_embeddings
    from balancer.storage.filesystem import Store

    request = EmbeddingsRequest(
        uri=embeddings,
        out=out,
        selection={
            "budget": budget,
            "strategy": strategy,
            "within": within,
            "epsilon": epsilon,
            "coreset_rows": coreset_rows,
            "include": include,
            "exclude": exclude,
            "quality_column": quality_column,
            "num_outliers": num_outliers,
            "device": device,
            "filter": filter_name,
        },
        overrides=overrides or (),
        num_clusters=num_clusters,
        seed=seed,
        normalize=normalize,
        id_column=id_column,
        vector_column=vector_column,
        weights=weights,
    )
    manifest = select_embeddings(request, Store(StorageConfig(endpoint_url=endpoint_url)))
    typer.echo(f"{manifest.num_rows} rows picked by {strategy}: {manifest.uri}")


def dedup(  # noqa: PLR0913 - typer turns each option into an argument
    embeddings: Annotated[
        str,
        typer.Argument(
            help="A .npy matrix, a Parquet file or folder, or what dedup wrote with --floor."
        ),
    ],
    out: Annotated[str, typer.Option(help="A folder, or a .parquet file for the tiles alone.")],
    threshold: Annotated[
        float | None, typer.Option(help="Cosine similarity from which tiles are near-duplicates.")
    ] = None,
    distance: Annotated[
        float | None, typer.Option(help="Or the distance up to which they are.")
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Also list all pairs down to this, to change the threshold later."),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Do not look across the borders of cells.")
    ] = False,
    rule: Annotated[str, typer.Option(help="greedy, or semdedup for comparison.")] = "greedy",
    order: Annotated[
        str, typer.Option(help="Who is kept, for semdedup: random, hard or easy.")
    ] = "random",
    num_cells: Annotated[int | None, typer.Option(help="From the rows when absent.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order in which tiles are decided.")] = 0,
    normalize: Annotated[bool, typer.Option(help="L2-normalise the rows first.")] = True,
    id_column: Annotated[str, typer.Option(help="Parquet column with the ids.")] = "tile_id",
    vector_column: Annotated[str, typer.Option(help="Parquet column of vectors.")] = "embedding",
    endpoint_url: EndpointUrl = None,
) -> None:
    """Find near-duplicates among embeddings that you already have."""
    from balancer.rounds.near_duplicates_only import DeduplicateRequest, deduplicate_embeddings
    from balancer.selection.near_report import describe
    from balancer.storage.filesystem import Store

    request = DeduplicateRequest(
        uri=embeddings,
        out=out,
        near={
            "threshold": threshold,
            "distance": distance,
            "floor": floor,
            "rule": rule,
            "order": order,
            "borders": "ignore" if approximate else None,
            "num_cells": num_cells,
        },
        seed=seed,
        normalize=normalize,
        id_column=id_column,
        vector_column=vector_column,
    )
    facts = deduplicate_embeddings(request, Store(StorageConfig(endpoint_url=endpoint_url)))
    for line in describe(facts):
        typer.echo(line)
    typer.echo(f"tables: {out}")


def verify(
    manifest: Annotated[str, typer.Argument(help="Manifest, path or s3:// URI.")],
    embeddings: Annotated[
        str | None,
        typer.Option(help="What it was selected from; its run's, or those it names, when absent."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    id_column: Annotated[str | None, typer.Option(help="Parquet column with the ids.")] = None,
    vector_column: Annotated[str | None, typer.Option(help="Parquet column of vectors.")] = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Check a manifest, and recompute its certificate from the embeddings."""
    from balancer.storage.filesystem import Store
    from balancer.verification import Status, verify_manifest
    from balancer.verification.inputs import Columns

    store = Store(StorageConfig(endpoint_url=endpoint_url))
    found = verify_manifest(
        store, manifest, embeddings=embeddings, columns=Columns(id_column, vector_column)
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        width = max(len(check.name) for check in found.checks)
        for check in found.checks:
            typer.echo(f"{check.status.upper():8}{check.name:{width}}  {check.message}")
        typer.echo(f"{found.summary()}: {found.manifest_uri}")
        if found.lacks_embeddings:
            typer.echo("The certificate was NOT verified: there were no embeddings to check it by.")
    names = ", ".join(found.named(Status.FAILED))
    if names:
        raise VerificationError(
            f"{found.manifest_uri} must hold what it says; it fails: {names}. Do not use it, or "
            f"select again."
        )
    if found.lacks_quality and found.recomputed:
        raise VerificationError(
            f"{found.manifest_uri} is not verified: its picks were weighted by a quality column; "
            f"give --embeddings that have it"
        )
    if not found.verified:
        raise VerificationError(f"{found.manifest_uri} is not verified: give --embeddings")
