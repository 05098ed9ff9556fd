"""`frontdesk config`: read a configuration as `serve` would, and say what is wrong with it."""

from __future__ import annotations

import typer

from frontdesk.cli.options import ConfigFile, beside, failing_clearly, loaded

app: typer.Typer = typer.Typer(help="The configuration.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Keep `check` a command of a group, though it is the only one."""


@app.command()
def check(config: ConfigFile = None) -> None:
    """Say everything that would stop `serve` from starting, by line; exit code 2 if something is.

    It imports what the gateway would import, and starts nothing: `agents check` runs the agents.
    """
    from frontdesk.gateway.blueprint_config import tables_of
    from frontdesk.gateway.surroundings import mistakes_around
    from frontdesk.keeper.modules_behind import find_behind

    with failing_clearly():
        find_behind([beside(config)])
        read = loaded(config, around=mistakes_around)
    for name, table in tables_of(read).items():
        typer.echo(f"{name} ({table.kind}): {table.isolation}")
    typer.echo("nothing is wrong")
