"""The verbs as calls of scripts: what each is given, and what its answer means.

No connection is known here: a `ScriptCall` becomes the words of one command, and reads the answer
to it. Arguments and answers are MessagePack, so that a page of a thousand entries is one string to
the parser of a connection. What a script's arguments are is told in its file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar, cast

import msgspec

from frontdesk.cluster.errors import LeaseLost, OwnerSuspect, Recovering, SchemaRefused
from frontdesk.cluster.index.moment import seconds
from frontdesk.cluster.valkey.entries import index_entry
from frontdesk.cluster.valkey.lua import Script, script
from frontdesk.errors import InvalidArgument, SessionAlreadyExists, SessionLimitExceeded

__all__ = [
    "Reply",
    "ScriptAnswer",
    "ScriptCall",
    "Words",
    "answer_in",
    "answers_to",
    "call_of",
    "packed",
    "packed_caller",
    "words_of",
]

T = TypeVar("T")

Reply = bytes | list[Any]
"""What a server answered: one string, or an array that begins with it."""

Words = tuple[str | bytes | int, ...]
"""The words of a command."""

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[Any]).decode


class ScriptAnswer(msgspec.Struct, frozen=True):
    """A script's answer.

    Attributes:
        what (str): What came of it: its own word, or the name of a refusal.
        revision (int): The last change; 0 where the script did not look.
        values (list[Any]): The rest of it.
        blobs (list[bytes]): What stands beside it in the reply.
    """

    what: str
    revision: int
    values: list[Any]
    blobs: list[bytes]


def answer_in(reply: Reply) -> ScriptAnswer:
    """Read a reply."""
    packed, blobs = (reply, []) if isinstance(reply, bytes) else (reply[0], reply[1:])
    what, revision, *values = decode(packed)
    return ScriptAnswer(what, int(revision), values, blobs)


class ScriptCall(msgspec.Struct, Generic[T], frozen=True):
    """A verb with its arguments.

    Attributes:
        script (Script): What is run.
        arguments (bytes): What it is given, as MessagePack.
        joint (bool): Several of the verb go as one call: the script takes an array of them.
        result (Callable[[ScriptAnswer], T]): Makes the verb's result of an answer.
        blob (bytes | None): A further argument that is not text.
        session_id, incarnation (str): Whom a refusal is about.
        schema (int): The caller's.
        again (bool): It may be sent again where it is not known whether it was done: that makes no
            difference to doing it once.
    """

    script: Script
    arguments: bytes
    result: Callable[[ScriptAnswer], T]
    joint: bool = False
    blob: bytes | None = None
    session_id: str = ""
    incarnation: str = ""
    schema: int = 0
    again: bool = True

    def words(self, meta: str, caller: bytes) -> Words:
        """Return the command's words, as a connection sends them, for a `packed_caller`."""
        return words_of([self], meta, caller)

    def answer(self, reply: Reply) -> ScriptAnswer:
        """Read the reply to it, where it went alone."""
        return answers_to([self], reply)[0]

    def outcome(self, answer: ScriptAnswer) -> T:
        """Return the verb's result; raises what the script refuses it with."""
        if answer.what in _REFUSALS:
            self._refuse(answer)
        return self.result(answer)

    def _refuse(self, answer: ScriptAnswer) -> NoReturn:
        match answer.what, answer.values:
            case "already_exists", [fields]:
                found = index_entry(self.session_id, fields).metadata if fields else None
                # Everywhere but in its own store the holder is metadata: the error says so.
                raise SessionAlreadyExists(self.session_id, holder=cast("Any", found))
            case "owner_suspect", [left_us]:
                raise OwnerSuspect(self.session_id, retry_after_s=seconds(left_us))
            case "recovering", [left_us]:
                raise Recovering(retry_after_s=seconds(left_us))
            case "limit_reached", [scope, limit]:
                raise SessionLimitExceeded(scope=scope, limit=limit)
            case "schema_refused", [found]:
                known = tuple(one for one in (self.schema - 1, self.schema) if one > 0)
                raise SchemaRefused(found, known=known)
        raise LeaseLost(self.incarnation)


_REFUSALS = frozenset(
    {
        "already_exists",
        "lease_lost",
        "limit_reached",
        "owner_suspect",
        "recovering",
        "schema_refused",
    }
)


def words_of(calls: Sequence[ScriptCall[Any]], meta: str, caller: bytes) -> Words:
    """Return the words of one command for a call, or for several joint ones of one verb."""
    first = calls[0]
    arguments = first.arguments
    if first.joint:
        # An array of what is packed already: its head of MessagePack, for up to 65,535 of them.
        head = b"\xdc" + len(calls).to_bytes(2, "big")
        arguments = b"".join([head, *(call.arguments for call in calls)])
    words: Words = ("EVALSHA", first.script.sha, 1, meta, caller, arguments)
    return words if first.blob is None else (*words, first.blob)


def packed(words: Words) -> bytes:
    """Return a command as the server reads it: for few and short words quicker than redis-py is."""
    told = [b"*%d\r\n" % len(words)]
    for word in words:
        sent = word if isinstance(word, bytes) else str(word).encode()
        told.append(b"$%d\r\n%b\r\n" % (len(sent), sent))
    return b"".join(told)


def answers_to(calls: Sequence[ScriptCall[Any]], reply: Reply) -> list[ScriptAnswer]:
    """Read the reply to such a command: the answer to each."""
    answer = answer_in(reply)
    if not calls[0].joint:
        return [answer]
    (outcomes,) = answer.values
    return [ScriptAnswer(what, answer.revision, values, []) for what, *values in outcomes]


def call_of(
    name: str, arguments: Sequence[object], result: Callable[[ScriptAnswer], T], **options: Any
) -> ScriptCall[T]:
    """Return a call of a verb's script. `InvalidArgument` where a text is no UTF-8."""
    try:
        packed = encode(arguments)
    except UnicodeEncodeError as error:
        got = repr(error.object[error.start : error.end])
        raise InvalidArgument("text", expected="of whole characters", got=got) from None
    return ScriptCall(script(name), packed, result, **options)


def packed_caller(run_id: str, known: int) -> bytes:
    """Return what a script is told of its caller: which run it speaks to, and what it knows."""
    return encode((run_id, known))
