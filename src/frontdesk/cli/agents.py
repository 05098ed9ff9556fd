"""`frontdesk agents`: look whether the blueprints of a configuration work, before clients do.

The work is done by `check.py`, which is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from frontdesk.cli.options import ConfigFile

app: typer.Typer = typer.Typer(help="The agents that clients may open.", no_args_is_help=True)

PROBLEMS = 1


@app.callback()
def agents() -> None:
    """Keep `check` a command of a group, though it is the only one."""


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(help="The blueprint; all of the configuration by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to run the turn with.")] = None,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = "Say hello in one sentence.",
    timeout_s: Annotated[float, typer.Option(help="How long each turn may take.")] = 90.0,
    config: ConfigFile = None,
) -> None:
    """Start agents, run a turn with each, and say what is wrong. Exit code 1 if something is."""
    from frontdesk.cli.check import Wanted, check_all

    wanted = Wanted(name=name, model=model, prompt=prompt, timeout_s=timeout_s)
    if not asyncio.run(check_all(config, wanted, echo=typer.echo)):
        raise typer.Exit(PROBLEMS)
