"""What commands print: steps with their times, tables, JSON for machines, one line for an error."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# A file or a pipe has no width; tables should not be folded there. `always:new:` is no picture.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)


class Step:
    """One long step: says what it is doing, then what it did and how long it took."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self.result = ""

    def __call__(self, message: str) -> None:
        """Progress within the step."""
        err.print(f"  {self._title}: {message}", style="dim")

    def done(self) -> None:
        """The step's last line."""
        seconds = time.monotonic() - self._began
        err.print("ok", style="green", end=" ")
        err.print(f"{self._title} {seconds:.1f} s {self.result}")


@contextmanager
def step(title: str) -> Iterator[Step]:
    """A step that reports when it is done; an error passes through."""
    current = Step(title)
    yield current
    current.done()


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
    """A table on standard output; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,.4g}" for value in row))
    out.print(table)


def rows_bar(*before: str) -> Progress:
    """How far reading rows is, on standard error; a task has fields `rows`, `rate`, and what `before` names."""
    return Progress(
        *(TextColumn(each) for each in before),
        TextColumn("{task.fields[rows]:,} rows"),
        BarColumn(),
        TextColumn("{task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )


def next_command(command: str) -> None:
    """What a user would type next."""
    err.print(f"next: {command}")
