"""The command line, `frontdesk`: the top of everything.

`serve.py` and `run.py` run the gateway (`reload.py` after every edit anew), `keys.py` makes and
revokes keys, `configuration.py`, `agents.py` and `doctor.py` say what is
wrong before clients find it. `session_commands.py` (with `session_prompt.py`, `session_watch.py`
and `session_stops.py`), `node_commands.py`, `usage_command.py` and `top.py` ask a gateway that
runs, as `remote.py` finds it. How all of them print is in `output.py`, how they end in
`exit_codes.py`. Nothing imports it.
"""

from __future__ import annotations

import io
import sys

from frontdesk.errors import MissingExtra


def main() -> None:
    """Run the `frontdesk` command."""
    try:
        from frontdesk.cli.commands import app
        from frontdesk.cli.exit_codes import exiting
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("frontdesk"):
            raise
        missing = MissingExtra("gateway", part="the command line", missing=error.name or "typer")
        raise SystemExit(f"frontdesk: {missing}") from None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding lacks is written out, in place of a traceback.
            stream.reconfigure(errors="backslashreplace")
    with exiting():
        sys.exit(app(prog_name="frontdesk", standalone_mode=False))
