"""Calls and answers on the Unix socket between a worker and the supervisor that has the storage.

A frame is four bytes of length, big-endian, and a message in msgpack. A connection begins with a
`Greeting`, then calls go down, `[verb, {argument: value, ...}]`, and after each its answer comes
up, `[result, fault]`. The verbs are the methods of `Conversations`, decoded as their annotations
say, so nothing of them is written twice. Who sends what does not decode is hung up on.
"""

from __future__ import annotations

import hashlib
import inspect
import socket
import typing
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import msgspec

from frontdesk.cluster.local.wire import BadFrame
from frontdesk.errors import FrontdeskError
from frontdesk.persistence import errors
from frontdesk.persistence.conversations import Conversations

MAX_MESSAGE_BYTES = 2**27
"""The largest call or answer: twice what a node holds back at most, or a conversation has."""

_LENGTH_BYTES = 4

P = ParamSpec("P")
T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """Whose connection it is.

    Attributes:
        owner (str): The node, as which conversations are its own.
        place (str): Whose lock it holds: who was here before is dead, under whatever name.
        since_ns (int): Since when, by the machine's monotonic clock.
        form (str): How it writes calls, see `wire_form`.
    """

    owner: str
    place: str
    since_ns: int
    form: str


class StorageCall(msgspec.Struct, frozen=True, array_like=True):
    """A call of a verb; the arguments are decoded as those of that verb."""

    verb: str
    arguments: msgspec.Raw


class StorageFault(msgspec.Struct, frozen=True, array_like=True):
    """An error that a verb raised, with its facts, which are called as its parameters are."""

    kind: str
    facts: dict[str, str | int | float | None]

    @classmethod
    def of(cls, error: FrontdeskError) -> StorageFault:
        """Return the facts of an error."""
        return cls(type(error).__name__, dict(error.__dict__))

    @property
    def error(self) -> FrontdeskError:
        """Return the error itself."""
        kind: Any = getattr(errors, self.kind) if self.kind in errors.__all__ else None
        if kind is None:
            return errors.StorageUnavailable(f"the supervisor answered {self.kind[:80]!r}")
        raised: FrontdeskError = kind(**self.facts)
        return raised


class StorageAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a call: a result of its verb, unless there is a fault."""

    result: msgspec.Raw
    fault: StorageFault | None = None


class StorageVerb(Generic[P, T]):
    """A method of `Conversations` on the wire, decoded as its annotations say."""

    def __init__(self, method: Callable[Concatenate[Any, P], T]) -> None:
        self.name: str = method.__name__
        _, *parameters = inspect.signature(method).parameters.values()
        types = typing.get_type_hints(method)
        self._names = tuple(each.name for each in parameters)
        taken = msgspec.defstruct(self.name, [_field(each, types) for each in parameters])
        returned = types["return"]
        self.types: tuple[Any, Any] = taken, returned
        self._arguments: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(taken)
        self._result: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(returned)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> bytes:
        """Return the message of a call."""
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        return _encode((self.name, arguments))

    def arguments(self, call: StorageCall) -> dict[str, Any]:
        """Return the arguments of a call by their names."""
        decoded = self._arguments.decode(call.arguments)
        return {name: getattr(decoded, name) for name in self._names}

    def result(self, answer: StorageAnswer) -> T:
        """Return the result of an answer, or raise what the verb raised."""
        if answer.fault is not None:
            raise answer.fault.error
        return self._result.decode(answer.result)


def _field(parameter: inspect.Parameter, types: Mapping[str, Any]) -> Any:
    field = (parameter.name, types[parameter.name])
    return field if parameter.default is parameter.empty else (*field, parameter.default)


APPLY = StorageVerb(Conversations.apply)
CLAIM = StorageVerb(Conversations.claim)
UNFINISHED = StorageVerb(Conversations.unfinished)
FIND = StorageVerb(Conversations.find)
PAGE = StorageVerb(Conversations.page)
COUNT = StorageVerb(Conversations.count)
FRAMES = StorageVerb(Conversations.frames)
MESSAGES = StorageVerb(Conversations.messages)
LAST_MESSAGES = StorageVerb(Conversations.last_messages)
TURNS = StorageVerb(Conversations.turns)
TURN = StorageVerb(Conversations.turn)
LATEST_TURN = StorageVerb(Conversations.latest_turn)
MEMORIES = StorageVerb(Conversations.memories)
REQUESTS = StorageVerb(Conversations.requests)
CHECKPOINTS = StorageVerb(Conversations.checkpoints)
ANSWER = StorageVerb(Conversations.answer)
GREATEST_FENCE = StorageVerb(Conversations.greatest_fence)
EXPIRED = StorageVerb(Conversations.expired)

_ALL: tuple[StorageVerb[..., Any], ...] = (
    *(APPLY, CLAIM, UNFINISHED, FIND, PAGE, COUNT, FRAMES, MESSAGES, LAST_MESSAGES, TURNS, TURN),
    *(LATEST_TURN, MEMORIES, REQUESTS, CHECKPOINTS, ANSWER, GREATEST_FENCE, EXPIRED),
)

VERBS: Mapping[str, StorageVerb[..., Any]] = MappingProxyType({verb.name: verb for verb in _ALL})
"""Every verb, by its name."""


@cache
def wire_form() -> str:
    """Return a digest of all verbs: a supervisor and a worker with another do not understand."""
    shapes = msgspec.json.schema_components([each for verb in _ALL for each in verb.types])
    bare = _without_words(shapes)
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()[:16]


def _without_words(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {
            str(name): _without_words(part) for name, part in shape.items() if name != "description"
        }
    if isinstance(shape, list | tuple):
        return [_without_words(part) for part in shape]
    return shape


def send(connected: socket.socket, message: bytes) -> None:
    """Send a whole message; `OSError`, `BadFrame` where it is too large for the other side."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise BadFrame(f"a message of {len(message)} bytes, at most {MAX_MESSAGE_BYTES} are taken")
    connected.sendall(len(message).to_bytes(_LENGTH_BYTES, "big") + message)


def receive(connected: socket.socket) -> bytearray | None:
    """Receive a whole message; None where there comes no more, in its midst too. `BadFrame`."""
    if (length := _exactly(connected, _LENGTH_BYTES)) is None:
        return None
    size = int.from_bytes(length, "big")
    if size > MAX_MESSAGE_BYTES:
        raise BadFrame(f"a message of {size} bytes, at most {MAX_MESSAGE_BYTES} are taken")
    return _exactly(connected, size)


def _exactly(connected: socket.socket, size: int) -> bytearray | None:
    arrived = bytearray(size)
    rest = memoryview(arrived)
    while rest:
        count = connected.recv_into(rest)
        if count == 0:
            return None
        rest = rest[count:]
    return arrived
