"""Reproduce the Biased Circles study of the source paper: figures, results, a table.

python -m jobs.circles --out runs/circles [--seeds 5] [--quick]

The fixtures are a reconstruction fitted to two published accuracies, not the authors' setup; see
`balancer.comparison.circles`. About two minutes on one core; `--quick` takes half a minute.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from balancer.cli import exit_with_codes, stoppable
from balancer.comparison.circle_figures import draw_figures
from balancer.comparison.circle_scores import HEADLINE_POINTS, Score, score_table
from balancer.comparison.circle_study import QUICK_SIZES, SIZES, run_study
from balancer.comparison.circle_table import HEADER, PAPER_ROW, READING, table_rows
from balancer.comparison.circles import FIXTURES, draw_circles
from balancer.storage.filesystem import Store
from balancer.storage.tables import write_table

QUICK_SEEDS = 2
SHOWN_COLUMNS = (0, 1, 2, 3, 5)
"""Columns of the table that fit on a terminal of 80 characters; Figure 4 has them all."""


@stoppable()
def main(
    out: Annotated[str, typer.Option(help="Folder or s3:// prefix for figures and results.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many archives to draw.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds and five sizes.")] = False,
) -> None:
    """Score both fixtures, write `results.parquet` and the figures, print the table."""
    fixtures = list(FIXTURES.values())
    sizes = QUICK_SIZES if quick else SIZES
    num_seeds = min(seeds, QUICK_SEEDS) if quick else seeds
    console = Console()
    batches = run_study(fixtures, sizes=sizes, seeds=range(num_seeds))
    scores: list[Score] = []
    total = len(fixtures) * len(sizes)
    for batch in track(batches, "Training", total=total, console=console):
        scores += batch

    store = Store()
    folder = out.rstrip("/")
    metadata = {"study": "biased-circles", "seeds": str(num_seeds)}
    write_table(store, f"{folder}/results.parquet", score_table(scores), metadata)
    circles = {fixture.name: draw_circles(fixture, seed=0) for fixture in fixtures}
    for name, image in draw_figures(scores, circles).items():
        store.write_bytes(f"{folder}/{name}", image)

    title = f"Biased Circles, {HEADLINE_POINTS} training points, {num_seeds} seeds"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    for column in SHOWN_COLUMNS:
        table.add_column(HEADER[column], no_wrap=True)
    for row in (PAPER_ROW, *table_rows(scores)):
        table.add_row(*(row[column] for column in SHOWN_COLUMNS))
    console.print(table, *READING[:3], sep="\n")
    console.print(f"Figures and results.parquet: {folder}", soft_wrap=True)


if __name__ == "__main__":
    exit_with_codes(lambda: typer.run(main))
