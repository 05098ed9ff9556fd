"""`frontdesk serve --reload`: the gateway in a process of its own, begun anew after every edit.

Nothing is reloaded inside a running interpreter, which never forgets all of a module. What the
operator has beside the configuration is watched: Python files and TOML files, but for what lies in
virtual environments and caches.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from frontdesk.errors import MissingExtra

try:
    from watchfiles import PythonFilter, watch
except ImportError as _missing:
    raise MissingExtra("gateway", part="--reload", missing="watchfiles") from _missing

DRAIN_S = 3.0
"""For turns under way, before a run that is to be replaced is ended at once."""

_RUN = """
import contextlib, signal
from frontdesk.cli import main
from frontdesk.keeper.prctl import die_with_parent
with contextlib.suppress(OSError):  # a system without it leaves it to the parent
    die_with_parent(signal.SIGTERM)
main()
"""

ENDING = (signal.SIGINT, signal.SIGTERM)


def serve_and_reload(arguments: Sequence[str], directory: Path) -> None:
    """Run `frontdesk serve` with these arguments, anew after each edit below a directory.

    Returns after a SIGTERM or Ctrl-C. A run that ends by itself (its configuration is wrong) is
    begun anew after the next edit.
    """
    with _ended_by_signals() as ended, _Run(arguments) as run:
        for changes in watch(
            directory,
            watch_filter=PythonFilter(extra_extensions=(".toml",)),
            stop_event=ended,
            raise_interrupt=False,
        ):
            names = sorted({Path(path).name for _, path in changes})
            typer.echo(f"begun anew: {', '.join(names)} changed", err=True)
            run.begin_anew()


class _Run:
    """One run of the server after the other."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-P", "-c", _RUN, "serve", *arguments]

    def __enter__(self) -> _Run:
        self._begin()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def begin_anew(self) -> None:
        self._end()
        self._begin()

    def _begin(self) -> None:
        # Not in our group: a Ctrl-C is ours, and passed on once.
        self._process = subprocess.Popen(self._command, process_group=0)

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            self._process.send_signal(number)
            try:
                self._process.wait(DRAIN_S)
            except subprocess.TimeoutExpired:
                continue
            return


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Yield what is set by the signals that end a program, for as long as the block lasts."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
