"""A line as a message, in bounded time: what is large is not looked into, or refused.

All agents share one event loop. What takes long is not the length of a text but the number of the
values in it, so these are counted before anything is made of them: a message has `MAX_VALUES`, the
arguments and the result of a tool that it tells of apart, which have as many each. These are all
that is large by right: past the bound of an event they go out as their size, and are never parsed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from frontdesk.agents.acp.lines import LongLine
from frontdesk.agents.values import MAX_VALUES, json_value, read_json, values_in

MAX_VALUE_BYTES = 1024 * 1024
"""Bytes of a tool's arguments or result that are looked into: an event carries no more."""

MAX_SHOWN_CHARACTERS = 512 * 1024
"""Characters of each text that shows what a tool does, a side of a diff for instance."""

SMALL_BYTES = 16 * 1024
"""A message up to this size has no more than `MAX_VALUES` values."""

MAX_FIELD_BYTES = 1024
"""Bytes of a message's id or method, in one that is not small."""

Message = dict[str, Any]

_SHOWING = {"session/update": "update", "session/request_permission": "toolCall"}

_ID = rb'"id"\s*:\s*("(?:[^"\\]|\\.){0,200}"|-?[0-9]{1,18}|null)\s*'
_METHOD = rb'"method"\s*:\s*"([^"\\]{1,200})"\s*'
_CARGO = re.compile(rb'"(?:params|result|error)"\s*:')
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_LAST_FIELDS = re.compile(
    rb'[}\]"0-9el]\s*((?:,\s*(?:' + b"|".join((_ID, _METHOD, _VERSION)) + rb"))+)\}\s*$"
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A message that was not read, and why. It asks something where it has `id` and `method`."""

    problem: str
    size: int
    id: Any = None
    has_id: bool = False
    method: str | None = None


class _Envelope(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"")
    method: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"null")


class _Params(msgspec.Struct, rename="camel"):
    session_id: msgspec.Raw = msgspec.Raw(b"null")
    update: msgspec.Raw = msgspec.Raw(b"")
    tool_call: msgspec.Raw = msgspec.Raw(b"")
    options: msgspec.Raw = msgspec.Raw(b"")


class _Call(msgspec.Struct, rename="camel"):
    session_update: msgspec.Raw = msgspec.Raw(b"")
    tool_call_id: msgspec.Raw = msgspec.Raw(b"")
    title: msgspec.Raw = msgspec.Raw(b"")
    kind: msgspec.Raw = msgspec.Raw(b"")
    status: msgspec.Raw = msgspec.Raw(b"")
    content: msgspec.Raw = msgspec.Raw(b"")
    locations: msgspec.Raw = msgspec.Raw(b"")
    raw_input: msgspec.Raw = msgspec.Raw(b"")
    raw_output: msgspec.Raw = msgspec.Raw(b"")
    meta: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_meta")


def parse_message(line: bytes) -> Message | LeftOut | None:
    """Return the JSON-RPC message in a line; None where it is none.

    >>> parse_message(b'{"jsonrpc":"2.0","method":"session/update","params":{}}')["method"]
    'session/update'
    >>> parse_message(b"Server listening"), parse_message(b"[]")
    (None, None)
    """
    try:
        message = _parse_small(line) if len(line) <= SMALL_BYTES else _parse_large(line)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if isinstance(message, LeftOut):
        return message
    return message if isinstance(message, dict) and is_rpc(message) else None


def left_out(line: LongLine) -> LeftOut:
    """Return what can be known of a message that was too long to be read."""
    cargo = _CARGO.search(line.begin)
    head = line.begin[: cargo.start()] if cargo else line.begin
    tail = _LAST_FIELDS.search(line.end)
    fields = head + (tail.group(1) if tail else b"")
    found_id, method = re.search(_ID, fields), re.search(_METHOD, fields)
    return LeftOut(
        "it is too long",
        line.size,
        id=json.loads(found_id.group(1)) if found_id else None,
        has_id=found_id is not None,
        method=method.group(1).decode(errors="replace") if method else None,
    )


def _parse_small(line: bytes) -> Any:
    message = read_json(line, constants=True)
    return json_value(message) if b"\\ud" in line or b"\\uD" in line else message


def _parse_large(line: bytes) -> Any:
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
    except msgspec.DecodeError:
        # Half a character, which some models send, is all that the other reader takes.
        if b"\\u" not in line or values_in(line) > MAX_VALUES:
            raise
        return _parse_small(line)
    message: Message = {"jsonrpc": "2.0"}
    for name in ("id", "method"):
        if text := bytes(getattr(envelope, name)):
            if len(text) > MAX_FIELD_BYTES:
                return None
            message[name] = _parse_small(text)
    method = message.get("method")
    if not isinstance(method, str | None) or not isinstance(message.get("id"), int | str | None):
        return None
    showing = _SHOWING.get(method or "")
    parsed = parse_call(bytes(envelope.params), showing) if showing else None
    if parsed is not None:
        return {**message, "params": parsed}
    if values_in(line) > MAX_VALUES:
        problem = f"it has more than {MAX_VALUES} values"
        return LeftOut(problem, len(line), message.get("id"), "id" in message, method)
    return _parse_small(line)


def parse_call(params: bytes, showing: str) -> Message | None:
    """Return parameters that show a call of a tool, shortened; None where they show something else.

    What is left of a call that shows too much is the call without that.
    """
    parts = msgspec.json.decode(params, type=_Params)
    shown = bytes(parts.update if showing == "update" else parts.tool_call)
    if not shown.lstrip().startswith(b"{"):
        return None
    fields = msgspec.json.decode(shown, type=_Call)
    if not bytes(fields.tool_call_id):
        return None
    call: Message = {}
    for field in msgspec.structs.fields(fields):
        text = bytes(getattr(fields, field.name))
        if not text:
            continue
        if field.name in ("raw_input", "raw_output"):
            call[field.encode_name] = shortened_value(text)
        elif values_in(text) <= MAX_VALUES:
            call[field.encode_name] = _shortened_texts(_parse_small(text))
    parsed = {"sessionId": _parse_small(bytes(parts.session_id)), showing: call}
    if options := bytes(parts.options):
        parsed["options"] = _parse_small(options) if values_in(options) <= MAX_VALUES else []
    return parsed


def shortened_value(text: bytes) -> Any:
    """Return a tool's arguments or result, or their size where they are too large to go out."""
    if len(text) > MAX_VALUE_BYTES or values_in(text) > MAX_VALUES:
        return f"<{len(text)} bytes>"
    return _parse_small(text)


def _shortened_texts(value: Any) -> Any:
    if isinstance(value, str):
        left_out = len(value) - MAX_SHOWN_CHARACTERS
        kept = value[:MAX_SHOWN_CHARACTERS]
        return f"{kept}… [{left_out} characters left out]" if left_out > 0 else value
    if isinstance(value, list):
        return [_shortened_texts(each) for each in value]
    if isinstance(value, dict):
        return {name: _shortened_texts(each) for name, each in value.items()}
    return value


def is_rpc(message: Message) -> bool:
    """Say whether the SDK's connection can take it: it trusts the types of these."""
    if not isinstance(message.get("id"), int | str | None):
        return False
    if "method" in message:
        return isinstance(message["method"], str)
    if not isinstance(message.get("error"), dict | None):
        return False
    return "id" in message and ("result" in message or "error" in message)
