"""What the gateway can be asked: each request as a record, for both clients.

A `GatewayCall` says what is sent, what comes back, and whether it may be sent again. Nothing here
opens a connection.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from frontdesk.agents.records import Approval
from frontdesk.client.call_options import (
    FileToAttach,
    ForkOptions,
    SessionOptions,
    SessionsFilter,
    ToolOptions,
    UsageFilter,
)
from frontdesk.errors import InvalidArgument
from frontdesk.schemas.answer_schemas import (
    AttachedTool,
    BlueprintList,
    CheckpointDeleted,
    CheckpointList,
    DetachedTool,
    Messages,
    ModelList,
    NamedCheckpoint,
    PromptAccepted,
    SessionCreated,
    SessionDeleted,
    SessionList,
    SessionStats,
    SessionStatus,
    SessionSummary,
    SessionToken,
    Status,
)
from frontdesk.schemas.operator_schemas import (
    GatewayStatus,
    Health,
    ListedNode,
    ListedNodes,
)
from frontdesk.schemas.row_schemas import EndedSessions, HostedSessionDetail, HostedSessions
from frontdesk.schemas.usage_schemas import OperatorUsage, UsageReport

A = TypeVar("A")

SESSIONS_PAGE, MESSAGES_PAGE = 1000, 100
"""How many are asked for at once where all are wanted; a message may be long."""


@dataclass(frozen=True, slots=True)
class GatewayCall(Generic[A]):
    """A request, and the record of its answer.

    `once` is whether it goes out under an `Idempotency-Key`, and so may be sent again though it is
    a POST. The repr leaves out what is sent: it may hold a client's secrets.
    """

    method: str
    path: str
    answer: type[A]
    query: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: Any = field(default=None, repr=False)
    once: bool = False

    @property
    def repeatable(self) -> bool:
        """Say whether it may be sent again without doing anything twice."""
        return self.method == "GET" or self.once

    @property
    def target(self) -> str:
        """Return path and query."""
        given = {name: _query_value(value) for name, value in self.query.items() if value != ()}
        present = {name: value for name, value in given.items() if value is not None}
        return f"{self.path}?{urlencode(present)}" if present else self.path

    @property
    def content(self) -> bytes | None:
        """Return the body as JSON, or as it is where it is bytes; None where there is none."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return msgspec.json.encode(self.body)


def _query_value(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list | tuple | frozenset) else value


def _session(session_id: str, *rest: str) -> str:
    """Return the path of a session, or of something below it."""
    if not session_id:
        raise InvalidArgument("session_id", expected="a session id", got="''")
    return "/".join(("/v1/sessions", _part(session_id), *rest))


def _part(name: str) -> str:
    # Dots alone would be taken out of a path, by this side or the other.
    return quote(name, safe="").replace(".", "%2E")


def events_path(session_id: str) -> str:
    """Return the path of a session's event stream."""
    return _session(session_id, "events")


def feed_target(path: str, chosen: Mapping[str, Any]) -> str:
    """Return path and query of a feed."""
    return GatewayCall("GET", path, object, row_query(chosen)).target


def _given(**fields: Any) -> dict[str, Any]:
    """Return a body of the fields that are given, by their names on the wire."""
    return {
        _wire_name(name): value
        for name, value in fields.items()
        if value is not None and value != ()
    }


def _wire_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


# -- sessions --------------------------------------------------------------------------------------


def open_session(model: str, options: SessionOptions) -> GatewayCall[SessionCreated]:
    body = _given(model=model, **options)
    return GatewayCall("POST", "/v1/sessions", SessionCreated, body=body, once=True)


def fork_session(
    session_id: str, after: str | None, options: ForkOptions
) -> GatewayCall[SessionCreated]:
    body = _given(fork=_given(session_id=session_id, after=after), **options)
    return GatewayCall("POST", "/v1/sessions", SessionCreated, body=body, once=True)


def list_sessions(
    *, limit: int | None, after: str | None, chosen: SessionsFilter
) -> GatewayCall[SessionList]:
    asked = {
        "limit": limit,
        "after": after,
        "kept": "true" if chosen.get("ended") else None,
        "state": tuple(chosen.get("state") or ()),
        "blueprint": chosen.get("blueprint"),
        "label": chosen.get("label"),
        "from": chosen.get("first"),
        "to": chosen.get("last"),
    }
    return GatewayCall("GET", "/v1/sessions", SessionList, asked)


def session_summary(session_id: str) -> GatewayCall[SessionSummary]:
    return GatewayCall("GET", _session(session_id), SessionSummary)


def session_status(session_id: str) -> GatewayCall[SessionStatus]:
    return GatewayCall("GET", _session(session_id, "status"), SessionStatus)


def session_stats(session_id: str) -> GatewayCall[SessionStats]:
    return GatewayCall("GET", _session(session_id, "stats"), SessionStats)


def session_messages(session_id: str, *, after: str | None) -> GatewayCall[Messages]:
    query = {"limit": MESSAGES_PAGE, "after": after or None}
    return GatewayCall("GET", _session(session_id, "messages"), Messages, query)


def resume_session(session_id: str) -> GatewayCall[SessionSummary]:
    return GatewayCall("POST", _session(session_id, "resume"), SessionSummary)


def close_session(session_id: str) -> GatewayCall[SessionSummary]:
    return GatewayCall("POST", _session(session_id, "close"), SessionSummary)


def export_session(session_id: str) -> GatewayCall[bytes]:
    return GatewayCall("GET", _session(session_id, "export"), bytes)


def import_session(lines: bytes, *, session_id: str | None) -> GatewayCall[SessionSummary]:
    query = {"sessionId": session_id}
    return GatewayCall("POST", "/v1/sessions/import", SessionSummary, query, body=lines)


def make_checkpoint(session_id: str, name: str) -> GatewayCall[NamedCheckpoint]:
    path = _session(session_id, "checkpoints")
    return GatewayCall("POST", path, NamedCheckpoint, body={"name": name})


def list_checkpoints(session_id: str) -> GatewayCall[CheckpointList]:
    return GatewayCall("GET", _session(session_id, "checkpoints"), CheckpointList)


def delete_checkpoint(session_id: str, name: str) -> GatewayCall[CheckpointDeleted]:
    path = _session(session_id, "checkpoints", _part(name))
    return GatewayCall("DELETE", path, CheckpointDeleted)


def stop_session(session_id: str) -> GatewayCall[SessionDeleted]:
    return GatewayCall("DELETE", _session(session_id), SessionDeleted)


def session_token(
    session_id: str, scopes: Iterable[str], *, ttl_s: int | None
) -> GatewayCall[SessionToken]:
    body = _given(scopes=list(scopes), ttl_s=ttl_s)
    return GatewayCall("POST", _session(session_id, "tokens"), SessionToken, body=body)


# -- turns -----------------------------------------------------------------------------------------


def send_prompt(
    session_id: str, text: str, attachments: Sequence[FileToAttach]
) -> GatewayCall[PromptAccepted]:
    files = [
        _given(**{**each, **({"data": b64encode(each["data"]).decode()} if "data" in each else {})})
        for each in attachments
    ]
    body = _given(text=text, attachments=files or None)
    return GatewayCall("POST", _session(session_id, "prompt"), PromptAccepted, body=body, once=True)


def steer_turn(session_id: str, text: str) -> GatewayCall[Status]:
    return GatewayCall("POST", _session(session_id, "steer"), Status, body={"text": text})


def abort_turn(session_id: str, reason: str | None, *, kill_tools: bool) -> GatewayCall[Status]:
    body = _given(reason=reason, kill_tools=kill_tools)
    return GatewayCall("POST", _session(session_id, "abort"), Status, body=body)


def switch_model(session_id: str, model: str) -> GatewayCall[Status]:
    return GatewayCall("POST", _session(session_id, "switch_model"), Status, body={"model": model})


def answer_approval(session_id: str, approval_id: str, answer: Approval) -> GatewayCall[Status]:
    path = _session(session_id, "approve" if answer.approved else "reject")
    body = _given(approval_id=approval_id, reason=answer.reason, option_id=answer.option_id)
    return GatewayCall("POST", path, Status, body=body)


def answer_question(session_id: str, ref: str, response: Any) -> GatewayCall[Status]:
    body = {"ref": ref, "response": response}
    return GatewayCall("POST", _session(session_id, "respond"), Status, body=body)


# -- callback tools --------------------------------------------------------------------------------


def attach_tool(
    session_id: str, name: str, callback_url: str, options: ToolOptions
) -> GatewayCall[AttachedTool]:
    given = {"description": "", "parameters": {}, **options}
    body = _given(name=name, callback_url=callback_url, **given)
    return GatewayCall("POST", _session(session_id, "tools"), AttachedTool, body=body)


def detach_tool(session_id: str, name: str) -> GatewayCall[DetachedTool]:
    path = _session(session_id, "tools", quote(name, safe=""))
    return GatewayCall("DELETE", path, DetachedTool)


# -- what a tenant sees beside ---------------------------------------------------------------------


def usage(query: UsageFilter) -> GatewayCall[UsageReport]:
    asked = {
        "by": tuple(query.get("by") or ()),
        "from": query.get("first"),
        "to": query.get("last"),
        "limit": query.get("limit"),
        "after": query.get("after"),
    }
    return GatewayCall("GET", "/v1/usage", UsageReport, asked)


def ends(path: str = "/v1/ends") -> GatewayCall[EndedSessions]:
    return GatewayCall("GET", path, EndedSessions)


def blueprints() -> GatewayCall[BlueprintList]:
    return GatewayCall("GET", "/v1/blueprints", BlueprintList)


def models() -> GatewayCall[ModelList]:
    return GatewayCall("GET", "/v1/models", ModelList)


def health() -> GatewayCall[Health]:
    return GatewayCall("GET", "/healthz", Health)


# -- what operators see and do ---------------------------------------------------------------------


def _hosted(tenant_id: str, session_id: str, *rest: str) -> str:
    path = _session(session_id, *rest).removeprefix("/v1/sessions/")
    return f"/ops/sessions/{quote(tenant_id, safe='')}/{path}"


def row_query(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter of rows as a query."""
    return _given(
        **{
            ("older_than" if name == "older_than_s" else name): value
            for name, value in chosen.items()
        }
    )


def gateway_status() -> GatewayCall[GatewayStatus]:
    return GatewayCall("GET", "/ops/status", GatewayStatus)


def hosted_sessions(chosen: Mapping[str, Any]) -> GatewayCall[HostedSessions]:
    return GatewayCall("GET", "/ops/sessions", HostedSessions, row_query(chosen))


def hosted_session(tenant_id: str, session_id: str) -> GatewayCall[HostedSessionDetail]:
    return GatewayCall("GET", _hosted(tenant_id, session_id), HostedSessionDetail)


def hosted_messages(tenant_id: str, session_id: str, *, after: str | None) -> GatewayCall[Messages]:
    query = {"limit": MESSAGES_PAGE, "after": after or None}
    return GatewayCall("GET", _hosted(tenant_id, session_id, "messages"), Messages, query)


def hosted_events_path(tenant_id: str, session_id: str) -> str:
    """Return the path at which an operator follows a session's events."""
    return _hosted(tenant_id, session_id, "events")


def stop_hosted(tenant_id: str, session_id: str) -> GatewayCall[SessionDeleted]:
    return GatewayCall("POST", _hosted(tenant_id, session_id, "stop"), SessionDeleted)


def abort_hosted(
    tenant_id: str, session_id: str, reason: str | None, *, kill_tools: bool
) -> GatewayCall[Status]:
    path = _hosted(tenant_id, session_id, "abort")
    return GatewayCall("POST", path, Status, body=_given(reason=reason, kill_tools=kill_tools))


def usage_of_all(*, limit: int | None, after: str | None) -> GatewayCall[OperatorUsage]:
    return GatewayCall("GET", "/ops/usage", OperatorUsage, _given(limit=limit, after=after))


def nodes() -> GatewayCall[ListedNodes]:
    return GatewayCall("GET", "/ops/nodes", ListedNodes)


def drain_node(node: str) -> GatewayCall[ListedNode]:
    return GatewayCall("POST", f"/ops/nodes/{quote(node, safe='/')}/drain", ListedNode)
