"""What a run says while it works: bars on a terminal, one plain line per ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 10.0


class Reporter:
    """Prints messages and the progress of tasks to a stream, standard error by default.

    Args:
        stream: where to print.
        quiet: print nothing.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._console = Console(file=self._stream, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """Print one line."""
        if not self._quiet:
            self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Print one line that starts with `warning:`."""
        self.say(f"warning: {message}")

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
        """Show a task's progress while the block runs.

        Yields:
            A function to call with how many units were done, and a note to show behind them.
        """
        if self._quiet:
            yield _ignore
        elif self._console.is_terminal:
            columns = (
                TextColumn("{task.description:<18}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{unit} {{task.fields[note]}}"),
                TimeElapsedColumn(),
            )
            with Progress(*columns, console=self._console) as bars:
                bar = bars.add_task(name, total=total, note="")

                def advance(done: int, note: str) -> None:
                    bars.update(bar, advance=done, note=note)

                yield advance
        else:
            lines = _Lines(self, name, total, unit)
            yield lines.advance
            lines.close()


def _ignore(done: int, note: str) -> None:
    """Take what a quiet reporter is told."""


class _Lines:
    """One line per `LINE_EVERY_S` seconds, and one at the end."""

    def __init__(self, reporter: Reporter, name: str, total: int, unit: str) -> None:
        self._reporter = reporter
        self._name, self._total, self._unit = name, total, unit
        self._done = 0
        self._note = ""
        self._start = self._last = time.monotonic()

    def advance(self, done: int, note: str) -> None:
        self._done += done
        self._note = note
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S and self._done < self._total:
            self._last = now
            self._print(now)

    def close(self) -> None:
        if self._done:
            self._print(time.monotonic())

    def _print(self, now: float) -> None:
        note = f", {self._note}" if self._note else ""
        self._reporter.say(
            f"{self._name}: {self._done} of {self._total} {self._unit}{note}, "
            f"{now - self._start:.0f} s"
        )
