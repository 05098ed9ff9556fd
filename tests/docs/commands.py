"""The page of the command line, which is made from what `--help` says.

`make format` writes it; a test holds the page to it. What stands before the commands is here.
"""

from __future__ import annotations

from collections.abc import Iterator

from typer.main import get_command

from docs.pages import Page, page
from frontdesk.cli.commands import app
from frontdesk.cli.exit_codes import MEANINGS

COMMANDS_PAGE: Page = page("docs/reference/command-line.md")
HELP = ("--help", "--install-completion", "--show-completion")

INTRODUCTION = """\
# The command line

`frontdesk` comes with the extra `gateway`: then `serve`, `keys`, `config`, `agents`, `doctor` and
`version` work. The extra `cli` brings what the other commands need, which ask a gateway that runs;
it works alone, on a machine that only asks. This page is made from `--help`. See also
[Keys](../how-to/keys.md), [Configuration](configuration.md) and
[Run the gateway](../how-to/run-the-gateway.md).

## Where and who

Commands that ask a gateway take `--url`, else `FRONTDESK_URL`, else `http://127.0.0.1:4000`; and a
key from `--key-file`, else `FRONTDESK_KEY`. No option takes a secret, because process lists show
options. `frontdesk serve --dev` prints both to paste.

A tenant's key sees its tenant's sessions, named by their ids. An operator's key sees those of all
tenants, named `tenant/id`, and nothing that is said in them. `sessions ls`, `sessions watch`,
`usage` and `top` ask as a tenant, and, where the key is none, as an operator; with `--ops` or
`--tenant` as an operator at once.

`frontdesk conversations` asks no gateway: it opens SQLite's file in the state directory. Where
conversations are in PostgreSQL,
[ask a gateway](../how-to/conversations-in-postgresql.md#what-looks-into-it).

## What is printed

Data goes to standard output, everything else to standard error. On a terminal data is a table, in
which a narrow terminal has fewer columns; `NO_COLOR` takes the colours away. Into a pipe it is
tab-separated, whole, without colour and headings, with all columns in the order that each command
names below: times are ISO 8601 in UTC, what is not there is empty, and `\\t`, `\\n`, `\\r` and
`\\\\` stand for a tab, a line's end, a return and a backslash in a value. No control character of
an id or a text reaches a terminal: it is written out, like `\\x1b`. A reader that leaves early
(`| head`) ends the command without an error.

With `--json` it is one document, with the names of the HTTP API; of what goes on (`watch`,
`prompt`) a line an item. An error is then one object on standard error:
`{"error": ..., "message": ..., "exitCode": ...}`. Every error says what to do next.

## Exit codes

"""


def leaves(command, *path):
    """Yield every command below this one, by its words."""
    if not hasattr(command, "commands"):
        yield " ".join(path), command
        return
    for name, below in command.commands.items():
        yield from leaves(below, *path, name)


def page_text() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION + "| code | when |\n|---|---|"]
    lines += [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    for name, command in leaves(get_command(app)):
        lines += section(name, command)
    return "\n".join(lines) + "\n"


def section(name: str, command) -> Iterator[str]:
    """Yield the lines about one command."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if not set(each.opts) & set(HELP)]
    words = " ".join(["frontdesk", name, *(_written(each) for each in arguments)])
    yield from ("", f"## {name}", "", f"`{words}`", "", paragraphs(command.help))
    if options:
        yield from ("", "| option | meaning |", "|---|---|")
    for each in options:
        shown = _written(each) if each in arguments else ", ".join(each.opts)
        meaning = (each.help or "").replace("|", "\\|")
        default = each.default
        if default not in (None, False, (), []) and str(default) not in meaning:
            meaning = f"{meaning} Default: `{default}`."
        yield f"| `{shown}` | {meaning} |"


def paragraphs(text: str) -> str:
    """Return a help text as Markdown has it: a paragraph on lines of its own."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _written(argument) -> str:
    shown = (argument.metavar or argument.name.upper()).strip("[]")
    shown += "..." if argument.nargs == -1 and not shown.endswith("...") else ""
    return shown if argument.required else f"[{shown}]"


def main() -> None:
    """Write the page."""
    COMMANDS_PAGE.path.write_text(page_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
