"""`frontdesk agents`: look whether the blueprints of a configuration work, before clients do.

The work is done by `check.py`, which is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from frontdesk.cli.exit_codes import ExitCode, printable_text
from frontdesk.cli.options import AsJson, ConfigFile
from frontdesk.cli.output import emit, print_json

app: typer.Typer = typer.Typer(help="The agents that clients may open.", no_args_is_help=True)


@app.callback()
def agents() -> None:
    """Keep `check` a command of a group, though it is the only one."""


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(help="The blueprint; all of the configuration by default.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to run the turn with; else the first named in full, or a free one."
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = "Say hello in one sentence.",
    timeout_s: Annotated[
        float, typer.Option(help="How long each turn may take, in seconds.")
    ] = 90.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Start agents, run a turn with each, and say what is wrong; exit code 1 where something is.

    Names a missing variable or program, and says what a program wrote last. Approvals are answered
    with no, questions with a sentence. No gateway has to run, and none is disturbed. Of models that
    are patterns, like `anthropic:*`, only the key is looked for.
    """
    from frontdesk.cli.check import Wanted, check_all

    wanted = Wanted(name=name, model=model, prompt=prompt, timeout_s=timeout_s)
    findings: list[str] = []
    echo = findings.append if as_json else (lambda text: emit(f"{printable_text(text)}\n"))
    well = asyncio.run(check_all(config, wanted, echo=echo))
    if as_json:
        print_json({"ok": well, "findings": findings})
    if not well:
        raise typer.Exit(ExitCode.WRONG)
