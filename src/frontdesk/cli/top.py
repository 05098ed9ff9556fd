"""`frontdesk top`: who is in the building, live, on the whole terminal.

Here are its options; the screen is in `top_screen.py`, which brings Textual along.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.remote import KeyPath, Url
from frontdesk.cli.row_listing import RowChoice, choosing_rows
from frontdesk.errors import MissingExtra


@choosing_rows
def top(
    *,
    choice: RowChoice,
    actions: Annotated[
        bool,
        typer.Option("--actions", help="Let x end the session at the cursor; it asks."),
    ] = False,
    url: Url = None,
    key_file: KeyPath = None,
) -> None:
    """Follow the sessions on the whole terminal: what waits for somebody first.

    It only looks, unless --actions. Keys: up and down, / filters, s sorts by another column, ? says
    all of them, q leaves. Where the connection is cut it says since when what it shows is stale.
    """
    try:
        from frontdesk.cli.top_feed import TopFeed
        from frontdesk.cli.top_screen import TopScreen
    except ImportError as error:
        missing = getattr(error, "missing", None) or error.name or "textual"
        if missing.startswith("frontdesk"):
            raise
        raise MissingExtra("cli", part="frontdesk top", missing=missing) from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        message = "top needs a terminal: use `frontdesk sessions watch` into a pipe"
        raise CommandFailed("no_terminal", message, exit_code=ExitCode.USAGE)

    async def run() -> BaseException | None:
        async with TopFeed.open(choice, url=url, key_file=key_file) as feed:
            screen = TopScreen(feed, actions=actions)
            await screen.run_async()
            return screen.failure

    if (failure := asyncio.run(run())) is not None:
        raise failure
