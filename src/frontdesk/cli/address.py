"""The address that is served: that it cannot be had, and how it is written."""

from __future__ import annotations

import socket

from frontdesk.errors import InvalidArgument
from frontdesk.gateway.server import bound_socket
from frontdesk.gateway.settings import ServerSettings


def refused(server: ServerSettings, error: OSError) -> InvalidArgument:
    """Return what is raised where the system does not let us have the address."""
    place = f"{server.host}:{server.port} ({error.strerror})"
    return InvalidArgument("the address", expected="free and ours", got=place)


def bound_address(server: ServerSettings) -> socket.socket:
    """Bind the address; `InvalidArgument` where it cannot be had."""
    try:
        return bound_socket(server.host, server.port)
    except OSError as error:
        raise refused(server, error) from None


def url_of(server: ServerSettings, bound: socket.socket) -> str:
    """Return the URL of a socket that is bound."""
    host, port = bound.getsockname()[:2]
    scheme = "http" if server.tls_certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
