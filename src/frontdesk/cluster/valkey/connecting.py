"""Connections of redis-py: opened, led to the primary by sentinels, and examined.

redis-py's own retries and its pool are not used: by default it repeats a script after a time-out,
and a pool hands out connections that nobody has examined. What is opened here is one connection,
on which nobody else speaks.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

from frontdesk.cluster.errors import EngineRefused, EngineUnavailable
from frontdesk.cluster.valkey.engine_address import EngineAddress, Place
from frontdesk.cluster.valkey.server_status import SECTIONS, ServerStatus
from frontdesk.errors import MissingExtra

try:
    import redis
    import redis.asyncio
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        NoPermissionError,
        NoScriptError,
        ReadOnlyError,
        RedisError,
        ResponseError,
    )
except ImportError as _error:
    raise MissingExtra("cluster", part=__name__, missing="redis") from _error

__all__ = [
    "FAILURES",
    "NoPermissionError",
    "NoScriptError",
    "ReadOnlyError",
    "ResponseError",
    "connect",
    "connect_blocking",
    "unavailable",
]

FAILURES = (RedisError, OSError, EOFError, TimeoutError, RuntimeError)
"""What a connection that fails raises, whichever way.

uvloop raises a `RuntimeError` where something is written on a connection that has just broken.
"""

_INFO = ("INFO", *SECTIONS)


async def connect(address: EngineAddress, *, timeout_s: float) -> tuple[Any, ServerStatus]:
    """Open a connection to the server, the primary where sentinels know it.

    Raises `EngineUnavailable`, and `EngineRefused` where it does not let us in or cannot be used.
    """
    problems = []
    for place in await _primaries(address, timeout_s):
        connection = _of(redis.asyncio, address, place, timeout_s)
        try:
            await connection.connect()
            await connection.send_command(*_INFO)
            status = ServerStatus.parse(await connection.read_response(disable_decoding=True))
            status.check()
        except FAILURES as error:
            await connection.disconnect(nowait=True)
            problems.append(unavailable(error))
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        else:
            # Its own time-outs make a task of each write; whoever uses it has one for many.
            connection.socket_timeout = None
            return connection, status
    raise problems[0]


async def _primaries(address: EngineAddress, timeout_s: float) -> Iterable[Place]:
    if address.service is None:
        return address.places
    refusals: list[EngineRefused] = []
    for place in address.places:
        sentinel = _of(redis.asyncio, address, place, timeout_s, sentinel=True)
        try:
            await sentinel.connect()
            await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)
            found = await sentinel.read_response()
        except FAILURES as error:
            refusals += _refusals(error)
            continue
        finally:
            await sentinel.disconnect(nowait=True)
        if found is not None:
            return [_place_in(found)]
    raise refusals[0] if refusals else _nobody_knows(address)


def connect_blocking(address: EngineAddress, *, timeout_s: float) -> tuple[Any, ServerStatus]:
    """Do as `connect` does, in a thread of the caller's."""
    problems = []
    for place in _primaries_blocking(address, timeout_s):
        connection = _of(redis, address, place, timeout_s)
        try:
            connection.connect()
            connection.send_command(*_INFO)
            status = ServerStatus.parse(connection.read_response(disable_decoding=True))
            status.check()
        except FAILURES as error:
            connection.disconnect()
            problems.append(unavailable(error))
        except BaseException:
            connection.disconnect()
            raise
        else:
            return connection, status
    raise problems[0]


def _primaries_blocking(address: EngineAddress, timeout_s: float) -> Iterable[Place]:
    if address.service is None:
        return address.places
    refusals: list[EngineRefused] = []
    for place in address.places:
        sentinel = _of(redis, address, place, timeout_s, sentinel=True)
        try:
            sentinel.connect()
            sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)
            found = sentinel.read_response()
        except FAILURES as error:
            refusals += _refusals(error)
            continue
        finally:
            sentinel.disconnect()
        if found is not None:
            return [_place_in(found)]
    raise refusals[0] if refusals else _nobody_knows(address)


def _refusals(error: Exception) -> list[EngineRefused]:
    """Return what a sentinel's answer means, where it is that it lets nobody in as this."""
    refusal = unavailable(error)
    if not isinstance(refusal, EngineRefused):
        return []
    return [EngineRefused(f"a sentinel lets nobody in like that: {refusal.problem}")]


def _place_in(found: list[bytes]) -> Place:
    host, port = found
    return host.decode(), int(port)


def _nobody_knows(address: EngineAddress) -> EngineUnavailable:
    return EngineUnavailable(f"no sentinel of {address} answers and knows {address.service!r}")


def _of(
    library: Any, address: EngineAddress, place: Place, timeout_s: float, *, sentinel: bool = False
) -> Any:
    """Return a connection that is not open yet, of either of the two kinds."""
    kinds = library if library is redis.asyncio else library.connection
    options: dict[str, Any] = {
        "host": place[0],
        "port": place[1],
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
        "protocol": 2,
        "driver_info": None,  # CLIENT SETINFO, which an account need not be allowed
    }
    if sentinel:
        options |= {"username": address.sentinel_user, "password": address.sentinel_password}
    else:
        options |= {"db": address.database, "username": address.user, "password": address.password}
    if not address.secured:
        return kinds.Connection(**options)
    files = {"ca_certs": address.ca, "certfile": address.certificate, "keyfile": address.key}
    options |= {f"ssl_{name}": None if at is None else str(at) for name, at in files.items()}
    options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return kinds.SSLConnection(**options, ssl_min_version=ssl.TLSVersion.TLSv1_2)


def unavailable(error: Exception) -> EngineUnavailable | EngineRefused:
    """Return our error for a connection's: what it cannot do, without what it was asked.

    One that does not let us in is refused: that does not mend itself.
    """
    text = " ".join(str(error).split())[:200]
    if isinstance(error, AuthenticationError | NoPermissionError):
        return EngineRefused(f"it does not let this account in: {text}")
    if isinstance(error, BusyLoadingError):
        return EngineUnavailable("it is loading its data")
    if isinstance(error, ssl.SSLError):
        return EngineUnavailable(f"TLS: {text}")
    return EngineUnavailable(text or type(error).__name__)
