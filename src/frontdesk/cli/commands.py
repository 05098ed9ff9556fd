"""The commands of `frontdesk`, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from frontdesk import __version__
from frontdesk.cli import (
    agents,
    configuration,
    conversation_commands,
    keys,
    node_commands,
    session_commands,
)
from frontdesk.cli.doctor import doctor
from frontdesk.cli.options import AsJson
from frontdesk.cli.output import emit, print_json
from frontdesk.cli.serve import serve
from frontdesk.cli.top import top
from frontdesk.cli.usage_command import usage

app: typer.Typer = typer.Typer(
    name="frontdesk",
    help="The session registry and gateway for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.add_typer(session_commands.app, name="sessions")
app.add_typer(node_commands.app, name="nodes")
app.command()(usage)
app.command()(top)
app.command()(doctor)
app.add_typer(keys.app, name="keys")
app.add_typer(conversation_commands.app, name="conversations")
app.add_typer(agents.app, name="agents")
app.add_typer(configuration.app, name="config")


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        emit(f"{__version__}\n")


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"{__version__}\n")
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
