"""The commands of `frontdesk`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from frontdesk import __version__
from frontdesk.cli import agents, configuration, keys
from frontdesk.cli.serve import serve

app: typer.Typer = typer.Typer(
    name="frontdesk",
    help="The session registry and gateway for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.add_typer(keys.app, name="keys")
app.add_typer(agents.app, name="agents")
app.add_typer(configuration.app, name="config")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The session registry and gateway for AI agents."""
