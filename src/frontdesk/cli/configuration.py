"""`frontdesk config`: read a configuration as `serve` would, and say what is wrong with it."""

from __future__ import annotations

import typer

from frontdesk.cli.options import AsJson, ConfigFile, beside, loaded
from frontdesk.cli.output import Column, inform, print_json, print_rows

app: typer.Typer = typer.Typer(help="The configuration.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Keep `check` a command of a group, though it is the only one."""


@app.command()
def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say everything that would stop `serve` from starting, by line; exit code 2 if something is.

    It imports what the gateway would import, and starts nothing: `agents check` runs the agents.
    Columns: blueprint, kind, isolation.
    """
    from frontdesk.gateway.blueprint_config import tables_of
    from frontdesk.gateway.surroundings import mistakes_around
    from frontdesk.keeper.modules_behind import find_behind

    find_behind([beside(config)])
    read = loaded(config, around=mistakes_around)
    rows = [(name, table.kind, table.isolation) for name, table in tables_of(read).items()]
    if as_json:
        names = ("name", "kind", "isolation")
        print_json({"blueprints": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    columns: tuple[Column[tuple[str, str, str]], ...] = (
        Column("blueprint", lambda row: row[0]),
        Column("kind", lambda row: row[1]),
        Column("isolation", lambda row: row[2]),
    )
    print_rows(rows, columns, none="there are no blueprints")
    inform("nothing is wrong")
