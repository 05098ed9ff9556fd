"""`frontdesk serve`: run the gateway.

Here are its options only; `run.py`, which does it, is imported when it is asked for, as it brings
everything along, and the other commands should answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from frontdesk.cli.options import ConfigFile, StateDirectory, beside, loaded

Dev = Annotated[
    bool,
    typer.Option(
        "--dev",
        help="Print a link, keys that stay the same, and what to try; open the blueprint demo if "
        "the configuration opens none. Without --state-dir the keys come from .frontdesk-dev "
        "here, or are for one run.",
    ),
]
Reload = Annotated[
    bool,
    typer.Option(
        "--reload",
        help="Begin anew when a .py or .toml file beside the configuration changes. Its agents "
        "end; conversations that are stored are there again, dormant.",
    ),
]
GraceS = Annotated[
    float | None, typer.Option(help="How long turns may go on after a SIGTERM, in seconds.")
]
Workers = Annotated[
    int | None, typer.Option(help="How many processes serve, with one registry between them.")
]
Cluster = Annotated[
    str | None, typer.Option(help="The engine of a cluster of machines: valkey://host:port.")
]


def serve(
    dev: Dev = False,
    reload: Reload = False,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    grace_s: GraceS = None,
    workers: Workers = None,
    cluster: Cluster = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="A PEM file; with --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="A PEM file.")] = None,
) -> None:
    """Run the gateway until a SIGTERM or Ctrl-C.

    Options win over the environment, and that over the configuration file.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "state_dir": state_dir,
        "grace_s": grace_s,
        "workers": workers,
        "cluster": cluster,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
    }
    if reload:
        from frontdesk.cli.reload import serve_and_reload

        arguments = [each for each in sys.argv[2:] if each != "--reload"]
        serve_and_reload(arguments, beside(config))
        return
    with _state_of_development(given, wanted=dev and state_dir is None):
        _run(config, given, dev=dev)


def _run(config: Path | None, given: dict[str, Any], *, dev: bool) -> None:
    from frontdesk.gateway.errors import ConfigurationWrong

    try:
        workers = loaded(config, **given).server.workers
    except ConfigurationWrong:
        workers = 1  # what is wrong is told by the run, with all that is
    if workers > 1:
        from frontdesk.cli.workers import supervise

        raise typer.Exit(supervise(config, given, dev=dev))
    from frontdesk.cli.run import Run

    Run(config, given, dev=dev).run()


@contextmanager
def _state_of_development(given: dict[str, Any], *, wanted: bool) -> Iterator[None]:
    """Give a development run the state directory of its own."""
    if not wanted:
        yield
        return
    from frontdesk.cli.dev import dev_state

    with dev_state() as directory:
        given["state_dir"] = directory
        yield
