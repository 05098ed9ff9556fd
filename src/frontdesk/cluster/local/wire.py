"""Frames, calls and answers on the Unix socket between a worker and its supervisor.

A frame is four bytes of length, big-endian, and a message in msgpack. Down go calls, `[number,
verb, [argument, ...]]`, up come answers, `[number, result, fault]`, each with the number of its
call, in any order. The connection is hung up on whoever sends what does not decode.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import msgspec

from frontdesk.cluster.messages import PageRow, Raised, encode
from frontdesk.cluster.records import (
    Buried,
    Claim,
    EntryEnd,
    EntryPage,
    IndexEntry,
    IndexLimits,
    Joined,
    NewEntry,
    NodeRecord,
    NodeStatus,
    Renewal,
    Renewed,
    Selection,
    Taken,
)
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.records import Fence

__all__ = [
    "MAX_ANSWER_BYTES",
    "MAX_CALL_BYTES",
    "VERBS",
    "WireAnswer",
    "BadFrame",
    "WireCall",
    "FrameReader",
    "Verb",
    "bind_socket",
    "frame",
    "short_path",
]

MAX_CALL_BYTES = 2**20
"""The largest call; a hundred entries of the longest ids fit."""

MAX_ANSWER_BYTES = 2**26
"""The largest answer: everybody's totals may be long."""

_LENGTH_BYTES = 4

_LONGEST_ADDRESS = 107

CHANGED = "changed"
"""The argument of `update` that has those of its verb that are to change."""

T = TypeVar("T")


class BadFrame(Exception):
    """What no other side of ours sends: too large a frame, or a verb that there is not."""


class WireCall(msgspec.Struct, frozen=True, array_like=True):
    """A call of a verb; the arguments are decoded as those of that verb."""

    number: int
    verb: str
    arguments: msgspec.Raw


class WireAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the call of that number: a result of its verb, unless there is a fault."""

    number: int
    result: msgspec.Raw
    fault: Raised | None


class Verb(Generic[T]):
    """A verb of the index on the wire: what its arguments are called, and what they and its result
    are decoded as.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], result: Any) -> None:
        self.name: str = name
        self._names = tuple(arguments)
        # A tuple of these types, in order, which type checkers can make nothing of.
        types: Any = tuple[tuple(arguments.values())]  # type: ignore[misc]
        self._arguments: msgspec.msgpack.Decoder[tuple[object, ...]] = msgspec.msgpack.Decoder(
            types
        )
        self._result: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(result)

    def call(self, number: int, *arguments: object) -> bytes:
        """Return the frame of a call."""
        return frame(encode((number, self.name, arguments)))

    def arguments(self, call: WireCall) -> dict[str, Any]:
        """Return the arguments of a call by their names."""
        named: dict[str, Any] = dict(
            zip(self._names, self._arguments.decode(call.arguments), strict=True)
        )
        named.update(named.pop(CHANGED, {}))
        return named

    def result(self, answer: WireAnswer) -> T:
        """Return the result of an answer, or raise what the verb raised."""
        if answer.fault is not None:
            raise answer.fault.error
        return self._result.decode(answer.result)


_Changed = dict[Literal["blueprint", "model"], str | None]

JOIN: Verb[Joined] = Verb(
    "join", {"node": NodeRecord, "terms": LeaseTerms, "era": int | None}, Joined
)
RENEW: Verb[Renewed] = Verb("renew", {"renewal": Renewal}, Renewed)
LEAVE: Verb[Buried] = Verb("leave", {"incarnation": str}, Buried)
BURY: Verb[Buried] = Verb("bury", {"incarnation": str, "proven": bool}, Buried)
NODES: Verb[tuple[NodeStatus, ...]] = Verb("nodes", {}, tuple[NodeStatus, ...])
RESERVE: Verb[None] = Verb(
    "reserve", {"entry": NewEntry, "limits": IndexLimits, "ttl_s": float}, None
)
RELEASE: Verb[None] = Verb("release", {"incarnation": str, "session_id": str, "token": str}, None)
CREATE: Verb[Fence] = Verb("create", {"entry": NewEntry, "limits": IndexLimits}, Fence)
RESTORE: Verb[tuple[Fence, ...]] = Verb(
    "restore",
    {"incarnation": str, "entries": tuple[IndexEntry, ...], "complete": bool},
    tuple[Fence, ...],
)
UPDATE: Verb[int | None] = Verb(
    "update",
    {
        "incarnation": str,
        "session_id": str,
        "fence": Fence,
        CHANGED: _Changed,
    },
    int | None,
)
END: Verb[None] = Verb("end", {"incarnation": str, "ends": tuple[EntryEnd, ...]}, None)
READ: Verb[IndexEntry | None] = Verb("read", {"session_id": str}, IndexEntry | None)
LIST: Verb[EntryPage] = Verb(
    "list", {"selection": Selection, "after": Fence, "limit": int}, EntryPage
)
COUNT: Verb[int] = Verb("count", {"selection": Selection}, int)
FOLLOW: Verb[PageRow] = Verb(
    "follow", {"after": int, "era": int, "limit": int, "wait_s": float}, PageRow
)
TAKE: Verb[Taken] = Verb("take", {"counted": str, "limit": int, "window_s": float}, Taken)
CLAIM: Verb[Claim] = Verb(
    "claim", {"incarnation": str, "slot": str, "digest": str, "ttl_s": float}, Claim
)
PUBLISH: Verb[None] = Verb("publish", {"topic": str, "name": str, "totals": bytes}, None)
TOTALS: Verb[dict[str, bytes]] = Verb("totals", {"topic": str}, dict[str, bytes])

_ALL = (
    *(JOIN, RENEW, LEAVE, BURY, NODES),
    *(RESERVE, RELEASE, CREATE, RESTORE, UPDATE, END, READ, LIST, COUNT, FOLLOW),
    *(TAKE, CLAIM, PUBLISH, TOTALS),
)

VERBS: Mapping[str, Verb[Any]] = MappingProxyType({verb.name: verb for verb in _ALL})
"""Every verb, by its name."""


def frame(message: bytes) -> bytes:
    """Return a message with its length."""
    return len(message).to_bytes(_LENGTH_BYTES, "big") + message


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a path for a socket's address, where the kernel takes 107 bytes, however long it is."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_socket(path: Path) -> socket.socket:
    """Return a socket bound at a path, for this account alone before anybody can connect."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    bound = socket.socket(socket.AF_UNIX)
    try:
        with short_path(path) as address:
            bound.bind(address)
        path.chmod(0o700)
    except BaseException:
        bound.close()
        raise
    return bound


class FrameReader:
    """Take bytes as they arrive, and give whole messages. Holds one unfinished frame at most,
    and what arrived with it.
    """

    __slots__ = ("_arrived", "_largest")

    def __init__(self, *, largest: int) -> None:
        self._largest = largest
        self._arrived = bytearray()

    def feed(self, arrived: bytes) -> None:
        """Take what has arrived."""
        self._arrived += arrived

    def take(self) -> bytes | None:
        """Return the next message, None until it is whole.

        `BadFrame` as soon as one is announced.
        """
        if len(self._arrived) < _LENGTH_BYTES:
            return None
        size = int.from_bytes(self._arrived[:_LENGTH_BYTES], "big")
        if size > self._largest:
            raise BadFrame(f"a frame of {size} bytes, at most {self._largest} are taken")
        end = _LENGTH_BYTES + size
        if len(self._arrived) < end:
            return None
        message = bytes(self._arrived[_LENGTH_BYTES:end])
        del self._arrived[:end]
        return message
