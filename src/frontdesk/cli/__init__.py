"""The command line, `frontdesk`: the top of everything.

`serve.py` and `run.py` run the gateway (`reload.py` after every edit anew), `keys.py` makes and
revokes keys, `configuration.py` and `agents.py` say what is wrong before clients find it. Nothing
imports it.
"""

from __future__ import annotations

from frontdesk.errors import MissingExtra


def main() -> None:
    """Run the `frontdesk` command."""
    try:
        from frontdesk.cli.commands import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("frontdesk"):
            raise
        missing = MissingExtra("gateway", part="the command line", missing=error.name or "typer")
        raise SystemExit(f"frontdesk: {missing}") from None
