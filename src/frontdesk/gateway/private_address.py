"""Where other nodes reach this one: a socket that is bound, and its address as they write it.

Below the private listener, which serves it. Between workers of one machine it is a Unix socket in
the state directory, which agents cannot see; between machines what `cluster.listen` says.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from frontdesk.gateway.cluster_settings import ClusterSettings, place_of
from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.server import bound_socket


@dataclass(frozen=True, slots=True)
class PrivateAddress:
    """A socket that nothing listens on yet, and the address of it for others.

    Attributes:
        bound (socket.socket): Closed by whoever bound it.
        address (str): `unix:/path`, `http://host:port` or `https://host:port`.
    """

    bound: socket.socket
    address: str


@contextmanager
def bound_to_path(path: Path) -> Iterator[PrivateAddress]:
    """Bind a Unix socket that this account alone can connect to, in place of one that is left."""
    with socket.socket(socket.AF_UNIX) as bound:
        with suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            bound.bind(str(path))
        finally:
            os.umask(before)
        try:
            yield PrivateAddress(bound, f"unix:{path}")
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def bound_to_place(settings: ClusterSettings, *, nth: int = 0) -> Iterator[PrivateAddress]:
    """Bind what `listen` says, or of several workers the one that is the nth after it."""
    host, port = place_of(settings.listening)
    try:
        bound = bound_socket(host, port + nth if port else 0)
    except OSError as error:
        mistake = f"cluster.listen: {settings.listening} cannot be had: {error.strerror}"
        raise ConfigurationWrong("the configuration", mistakes=(mistake,)) from None
    with bound:
        host, port = bound.getsockname()[:2]
        if settings.advertise is not None:
            host, advertised = place_of(settings.advertise)
            port = advertised + nth if advertised else port
        scheme = "http" if settings.tls_certificate is None else "https"
        shown = f"[{host}]" if ":" in host else host
        yield PrivateAddress(bound, f"{scheme}://{shown}:{port}")
