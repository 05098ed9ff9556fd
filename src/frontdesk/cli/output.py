r"""What commands print: data on standard output, everything else on standard error.

The one place. On a terminal data is a table, into a pipe it is tab-separated, whole and without
colour or headings (in a value `\t`, `\n`, `\r` and `\\` stand for a tab, a line's end, a return and
a backslash), and with `--json` one document, or a line an item for what goes on. No control
character of anybody's id or text reaches a terminal. A reader that leaves early (`| head`) ends the
command without a word.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import typer

from frontdesk.cli.exit_codes import CONTROL, printable_text
from frontdesk.errors import MissingExtra

R = TypeVar("R")

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
SPECIAL = re.compile(rf"[\\\t\n\r]|{CONTROL.pattern}")
NOT_ASCII_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


PIPE_ONLY = sys.maxsize
"""The width from which on a terminal has what is for programs."""


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """A column: its heading, what of a row is in it, and how a terminal has that where it differs.

    `right` is for numbers. A terminal that is narrower than `from_width` goes without it; where it
    is too narrow for a value all the same, that ends in an ellipsis, or goes on below with `fold`.
    A pipe goes without one that has no `value`.
    """

    name: str
    value: Callable[[R], object] | None
    display: Callable[[R], str] | None = None
    right: bool = False
    from_width: int = 0
    fold: bool = False


def on_terminal() -> bool:
    """Say whether somebody reads standard output as it comes."""
    return sys.stdout.isatty()


def somebody_is_there() -> bool:
    """Say whether somebody can be asked: questions go to standard error."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def emit(text: str) -> None:
    """Write data, now; ends the command where nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer is written at the end: to nobody.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise SystemExit(0) from None


def inform(text: str) -> None:
    """Write a line that is no data."""
    typer.echo(printable_text(text) if sys.stderr.isatty() else text, err=True)


def print_rows(rows: Iterable[R], columns: Sequence[Column[R]], *, none: str) -> None:
    """Print rows as a table or tab-separated; `none` is said on a terminal where there are none."""
    if not on_terminal():
        for row in rows:
            emit(tab_separated(each.value(row) for each in columns if each.value is not None))
        return
    listed = list(rows)
    if listed:
        print_table(listed, columns)
    else:
        inform(none)


def tab_separated(values: Iterable[object]) -> str:
    """Return a line of values; what is None is empty."""
    return "\t".join(one_line(each) for each in values) + "\n"


def one_line(value: object) -> str:
    """Return a value in one line that moves no cursor."""
    text = "" if value is None else str(value)
    return SPECIAL.sub(lambda found: ESCAPES.get(found[0]) or ascii(found[0])[1:-1], text)


def usd(amount: float) -> str:
    """Return an amount to a billionth, without what sums of binary fractions have behind that.

    >>> usd(0.00022199999999999998), usd(0.0)
    ('0.000222', '0.0')
    """
    whole, _, part = f"{amount:.9f}".partition(".")
    return f"{whole}.{part.rstrip('0') or '0'}"


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print what is known of one thing: a line a fact, its name first."""
    pairs = [(name, "" if value is None else value) for name, value in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        line = f"{name:{width}}  {one_line(value)}".rstrip() + "\n"
        emit(line if on_terminal() else tab_separated([name, value]))


def print_json(document: Any, *, stream: bool = False) -> None:
    """Print a document, or an item of a stream on a line of its own."""
    import msgspec  # late: not every command needs it

    encoded = msgspec.json.encode(document)
    if on_terminal() and not stream:
        encoded = msgspec.json.format(encoded, indent=2)
    text = encoded.decode()
    emit(NOT_ASCII_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def print_table(rows: Sequence[R], columns: Sequence[Column[R]]) -> None:
    """Print a table that is as wide as the terminal at most."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        missing = error.name or "rich"
        raise MissingExtra("cli", part="a table on a terminal", missing=missing) from None
    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    chosen = [each for each in columns if console.width >= each.from_width]
    plain = bool(os.environ.get("NO_COLOR"))
    table = Table(box=None, pad_edge=False, header_style="" if plain else "bold")
    for column in chosen:
        table.add_column(column.name, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        getters = [each.display or each.value for each in chosen]
        cells = [None if get is None else get(row) for get in getters]
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    with console.capture() as captured:
        console.print(table)
    emit(captured.get())
