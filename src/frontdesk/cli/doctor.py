"""`frontdesk doctor`: what is wrong here and there, a line a check, each with what to do.

The checks are in `checks_here.py` and `storage_checks.py` (this machine) and `checks_there.py` (the
gateway that runs, the engine, the nodes). Each gives findings and raises nothing; what one needs of
another comes with `Examined`.
"""

from __future__ import annotations

import typer

from frontdesk.cli.exit_codes import ExitCode
from frontdesk.cli.findings import Examined, Finding
from frontdesk.cli.options import AsJson, ConfigFile, StateDirectory, loaded
from frontdesk.cli.output import Column, print_json, print_rows
from frontdesk.cli.remote import KeyPath, Url


def doctor(
    config: ConfigFile = None,
    state_dir: StateDirectory = None,
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Look at everything that a gateway needs, and say what is wrong; exit code 1 if something is.

    Here: configuration, state directory, conversations, descriptors, clock, kernel, keeper,
    certificates. There: the gateway at --url (else FRONTDESK_URL, else where the configuration has
    it listen), the engine that the configuration names, and the nodes: as the engine has them, or
    else as the gateway shows them to an operator's key. It changes nothing.

    Columns: check, result (ok, note: worth knowing, or wrong), what was found, what to do.
    """
    from frontdesk.cli import checks_here, checks_there

    examined = Examined(config_file=config, state_dir=state_dir, url=url, key_file=key_file)
    findings = [
        *checks_here.findings(examined, load=loaded),
        *checks_there.findings(examined),
    ]
    well = not any(each.result == "wrong" for each in findings)
    if as_json:
        print_json({"ok": well, "findings": findings})
    else:
        print_rows(findings, COLUMNS, none="")
    if not well:
        raise typer.Exit(ExitCode.WRONG)


COLUMNS: tuple[Column[Finding], ...] = (
    Column("check", lambda each: each.check),
    Column("result", lambda each: each.result),
    Column("found", lambda each: each.found, fold=True),
    Column("what to do", lambda each: each.advice, fold=True),
)
