"""The command line: parse, call, print, and turn errors into exit codes."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from balancer import cli_embeddings, cli_labels
from balancer.cli_labels import EndpointUrl, Overrides, named_values
from balancer.config import StorageConfig
from balancer.config_file import load_config
from balancer.errors import (
    BalancerError,
    ConfigError,
    InterruptedRunError,
    StorageError,
)
from balancer.version import __version__

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Balance an unlabeled archive of satellite tiles: embed, cluster, select, repeat.",
)


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C inside a command into the error for it; typer would use its own exit code.

    Raises:
        InterruptedRunError: saying how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped() from None


@app.command()
@stoppable()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.")],
    overrides: Overrides = None,
    out: Annotated[str | None, typer.Option(help="Run folder: a path or s3:// URI.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="local, auto, or ray://host:port.")
    ] = None,
) -> None:
    """Run the rounds, or continue them, and write manifests and report."""
    from balancer.report.collect import write_report
    from balancer.rounds.runner import run_rounds
    from balancer.rounds.summary import summary_rows
    from balancer.storage.filesystem import Store

    settings = load_config(config, overrides or [], named_values(out, ray_address))
    result = run_rounds(settings)
    report = write_report(Store(settings.storage), result.run_uri)
    table = Table(title="Balance", title_justify="left")
    for heading in ("measure", "before", "random", "balanced"):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for row in summary_rows(result.measures):
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(f"rounds    {result.num_rounds} ({result.stopped_because})", markup=False)
    console.print(f"manifest  {result.manifest_uri}", markup=False)
    console.print(f"report    {report}", markup=False)


app.command()(stoppable()(cli_embeddings.select))
app.command()(stoppable()(cli_embeddings.dedup))
app.command()(stoppable()(cli_embeddings.verify))


@app.command()
@stoppable()
def report(
    run_uri: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, path or s3:// URI.")],
    out: Annotated[str | None, typer.Option(help="HTML file; RUN/report.html when absent.")] = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Write the report page of a run."""
    from balancer.report.collect import write_report
    from balancer.storage.filesystem import Store

    store = Store(StorageConfig(endpoint_url=endpoint_url))
    typer.echo(write_report(store, run_uri, out))


@app.command()
@stoppable()
def init(
    demo: Annotated[Path, typer.Option(help="Folder for the procedural demo archive.")],
    tiles: Annotated[int, typer.Option(help="How many tiles.")] = 4500,
    seed: Annotated[int, typer.Option(help="Of the procedural archive.")] = 0,
) -> None:
    """Make the demo archive, unless it is there."""
    from balancer.demo.archive import write_archive
    from balancer.stages.progress import Reporter
    from balancer.storage.failures import describe

    try:
        with Reporter().task("demo archive", tiles, "tiles") as advance:
            summary = write_archive(
                demo, total=tiles, seed=seed, on_progress=lambda _done, _total: advance(1, "")
            )
    except ValueError as error:
        raise ConfigError(f"--tiles: {error}") from error
    except OSError as error:
        raise StorageError(describe(error, str(demo))) from error
    typer.echo(f"{summary.num_tiles} tiles in {len(summary.shards)} shards: {demo}")


app.command()(stoppable()(cli_labels.compare))
app.command()(stoppable()(cli_labels.imbalance))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with the code of `balancer.errors`."""
    exit_with_codes(lambda: app(args=arguments, standalone_mode=True))


def exit_with_codes(call: Any) -> None:  # noqa: ANN401 - any callable without arguments
    """Call, and end the process with the message and exit code of what it raises.

    SIGTERM, which `ray job stop` and schedulers send, ends it like Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        call()
    except KeyboardInterrupt:
        _fail(_stopped())
    except BalancerError as error:
        _fail(error)


def _stopped() -> InterruptedRunError:
    return InterruptedRunError(
        f"Stopped. What is finished is kept; go on with the same command:\n"
        f"  {shlex.join(sys.orig_argv)}"
    )


def _fail(error: BalancerError) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(error.exit_code)
