"""`frontdesk nodes`: the nodes of a cluster, as an operator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.cli.options import AsJson
from frontdesk.cli.output import PIPE_ONLY, Column, inform, print_json, print_rows
from frontdesk.cli.remote import KeyPath, Url, asking
from frontdesk.cli.times import age

if TYPE_CHECKING:
    from frontdesk.client import ListedNode

app: typer.Typer = typer.Typer(help="The nodes of a cluster.", no_args_is_help=True)


@app.command()
def ls(url: Url = None, key_file: KeyPath = None, as_json: AsJson = False) -> None:
    """List the nodes that are not dead, by name. Needs an operator's key.

    Columns: node, state, milliseconds left of its lease, sessions, whether it drains, version,
    digest of its configuration, incarnation, whether it is the one that answered.
    """
    with asking(url, key_file) as client:
        found = client.operator.nodes()
    if as_json:
        print_json(found)
        return
    print_rows(found.nodes, COLUMNS, none="the gateway is alone: it has no cluster")
    if len({each.config_digest for each in found.nodes}) > 1:
        inform("configurations differ: keys, blueprints or limits are not the same on all nodes")


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="Its name or incarnation, as `nodes ls` has them.")],
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Have a node leave new sessions to others; those that it has go on, and so does the node.

    Whoever runs the node ends it, by a SIGTERM. Columns as `nodes ls`.
    """
    with asking(url, key_file) as client:
        drained = client.operator.drain(node)
    if as_json:
        print_json(drained)
    else:
        print_rows([drained], COLUMNS, none="")


COLUMNS: tuple[Column[ListedNode], ...] = (
    Column("node", lambda node: node.name, fold=True),
    Column("state", lambda node: node.state),
    Column(
        "lease",
        lambda node: node.lease_left_ms,
        display=lambda node: "over" if node.lease_left_ms < 0 else age(node.lease_left_ms),
        right=True,
    ),
    Column("sessions", lambda node: node.sessions, right=True),
    Column(
        "drains",
        lambda node: str(node.draining).lower(),
        display=lambda node: "yes" if node.draining else "",
    ),
    Column("version", lambda node: node.version),
    Column("configuration", lambda node: node.config_digest),
    Column("incarnation", lambda node: node.incarnation, from_width=140),
    Column("answers", lambda node: str(node.answering).lower(), from_width=PIPE_ONLY),
)
