"""The gateway that a command asks: where it is, by which key, and whose sessions.

Above the client, which it imports when a command asks. A tenant's key opens `/v1` and an operator's
`/ops`: what both may ask is asked as a tenant first, unless the command line says otherwise.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from frontdesk.errors import MissingExtra

if TYPE_CHECKING:
    # Late: it comes with an extra.
    from frontdesk.client import Client

T = TypeVar("T")

ANSWER_S = 30.0
"""For connecting, and for an answer that is no stream."""

Url = Annotated[
    str | None,
    typer.Option(help="The gateway; else FRONTDESK_URL, else http://127.0.0.1:4000."),
]
KeyPath = Annotated[
    Path | None,
    typer.Option("--key-file", help="A file with the key; else FRONTDESK_KEY."),
]
Ops = Annotated[bool, typer.Option("--ops", help="Ask as an operator, about all tenants.")]
Name = Annotated[str, typer.Argument(help="The session's id; an operator's: tenant/id.")]


@contextmanager
def asking(
    url: str | None, key_file: Path | None, *, timeout_s: float = ANSWER_S
) -> Iterator[Client]:
    """Yield a client of the gateway; `MissingExtra` names the extra that the command needs."""
    try:
        from frontdesk.client import Client
    except ImportError as error:
        missing = getattr(error, "missing", None) or error.name or "httpx2"
        if missing.startswith("frontdesk"):
            raise
        raise MissingExtra("cli", part="this command", missing=missing) from None
    with Client(url, key_file=key_file, timeout_s=timeout_s) as client:
        check_listening(client.url)
        yield client


def check_listening(url: str) -> None:
    """Raise `UnreachableError` where nothing listens on this machine.

    A client would try again for some seconds, which helps while another machine restarts; here
    somebody waits for the command.
    """
    from frontdesk.client import UnreachableError

    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=ANSWER_S).close()
    except OSError as error:
        raise UnreachableError(f"nothing answers at {url}: {error.strerror or error}") from None


def as_whoever(of_tenant: Callable[[], T], of_operator: Callable[[], T], *, ops: bool) -> T:
    """Ask as a tenant, and as an operator where the key is none of a tenant's."""
    from frontdesk.client import UnauthorizedError

    if ops:
        return of_operator()
    try:
        return of_tenant()
    except UnauthorizedError as error:
        try:
            return of_operator()
        except UnauthorizedError:
            raise error from None


@dataclass(frozen=True, slots=True)
class SessionName:
    """A session as a command line names it; `tenant_id` where an operator does."""

    tenant_id: str | None
    session_id: str

    @classmethod
    def parse(cls, text: str) -> SessionName:
        """Read `id`, or an operator's `tenant/id`."""
        tenant, slash, session_id = text.rpartition("/")
        return cls(tenant if slash else None, session_id)

    def __str__(self) -> str:
        return self.session_id if self.tenant_id is None else f"{self.tenant_id}/{self.session_id}"
