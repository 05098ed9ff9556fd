"""`frontdesk serve`: run the gateway.

Here are its options only; `run.py`, which does it, is imported when it is asked for, as it brings
everything along, and the other commands should answer at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from frontdesk.cli.options import ConfigFile, StateDirectory, failing_clearly


def serve(
    dev: Annotated[
        bool, typer.Option("--dev", help="Make a key for this run and print it.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    grace_s: Annotated[
        float | None, typer.Option(help="How long turns may go on after a SIGTERM.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="A PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="A PEM file.")] = None,
) -> None:
    """Run the gateway until a SIGTERM or Ctrl-C."""
    given: dict[str, object] = {
        "host": host,
        "port": port,
        "state_dir": state_dir,
        "grace_s": grace_s,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
    }
    with failing_clearly(), _state_of_this_run(given, wanted=dev and state_dir is None):
        from frontdesk.cli.run import Run

        Run(config, given, dev=dev).run()


@contextmanager
def _state_of_this_run(given: dict[str, object], *, wanted: bool) -> Iterator[None]:
    """Give a development run a state directory that is gone when it ends."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="frontdesk-") as directory:
        given["state_dir"] = Path(directory) / "state"
        yield
