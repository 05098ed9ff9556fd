"""The faults that the fuzzer has to find: failures, ends that are missing, tenants, the wire.

Each takes the place of a function of the gateway's and does nothing until it is at work
(`planting.py`). `FAULTS` there says which campaign has to find each, and by which rule.
"""

import msgspec

from blackbox.findings import Rule
from blackbox.planting import fault, planted
from frontdesk.agents.events import AgentAbort, AgentEnd
from frontdesk.errors import SessionNotFound
from frontdesk.gateway import websocket
from frontdesk.gateway.error_answers import INTERNAL
from frontdesk.gateway.errors import Unauthorized
from frontdesk.gateway.http_protocol import BoundedHttp
from frontdesk.gateway.middleware import GatewayMiddleware
from frontdesk.gateway.problems import Problem
from frontdesk.gateway.websocket_protocol import BoundedWebSocket
from frontdesk.records import ExitReason
from frontdesk.schemas.answer_schemas import SessionStats
from frontdesk.sessions.conversation import Conversation
from frontdesk.sessions.errors import Draining
from frontdesk.sessions.event_log import EventLog, LoggedEvent
from frontdesk.sessions.queue import PromptQueue
from frontdesk.sessions.service import SessionService
from frontdesk.sessions.tenant_sessions import TenantSessions


def elsewhere(service, key):
    """Return the live sessions of a key's id that other tenants have."""
    session_id = key.partition("/")[2]
    live = [each for each in service._live if each.conversation.session_id == session_id]
    return [each for each in live if each.registry_key != key]


# -- failures -------------------------------------------------------------------------------------

TEXT = fault("a text beyond ASCII is a failure", "api", Rule.NO_FAILURE)
BUSY = fault("a 503 does not say for how long", "api", Rule.NO_FAILURE)
ORIGIN = fault("an odd Origin is a failure", "odd_values", Rule.NO_FAILURE)
CURSOR = fault("an odd cursor is a failure", "odd_values", Rule.NO_FAILURE)
MALFORMED = fault("what is no request is a failure", "spoiled_heads", Rule.NO_FAILURE)
FORM = fault("an error is in another form", "api", Rule.FORM)
NUMBER = fault("a number is a text", "api", Rule.DESCRIBED)


@planted(TEXT, Conversation, "prompt")
def _(original, conversation, text):
    if not text.isascii():
        raise RuntimeError(text)
    return original(conversation, text)


@planted(BUSY, Conversation, "abort")
def _(original, conversation, reason=None, *, kill_tools=False):
    if reason:
        raise Draining
    original(conversation, reason, kill_tools=kill_tools)


@planted(BUSY, Problem, "headers")
def _(original, problem):
    return {}


@planted(ORIGIN, GatewayMiddleware, "_dispatch")
def _(original, middleware, context):
    (context.header(b"origin") or "").encode("ascii")
    return original(middleware, context)


@planted(CURSOR, Conversation, "subscribe")
def _(original, conversation, *, since=None, **more):
    int((since or "0").partition("-")[0])
    return original(conversation, since=since, **more)


@planted(MALFORMED, BoundedHttp, "_refuse")
def _(original, protocol, answer, sentence, *headers):
    original(protocol, INTERNAL if answer.status == 400 else answer, sentence, *headers)


@planted(FORM, Problem, "body")
def _(original, problem):
    return b"Traceback (most recent call last)" if problem.status == 404 else original(problem)


@planted(NUMBER, SessionStats, "of")
def _(original, conversation):
    return msgspec.structs.replace(original(conversation), turns="some")


# -- sessions that disappear, turns without an end ------------------------------------------------

KILLED = fault("an abort that kills tools ends the session", "api", Rule.STAYS)
FOREIGN_DELETE = fault("a tenant deletes another's session", "api", Rule.STAYS)
UNLISTED = fault("a list leaves one out", "api", Rule.STAYS)
SWALLOWED = fault("the end of an aborted turn is swallowed", "api", Rule.ENDS)
TWICE = fault("a turn ends twice", "api", Rule.ENDS)
FORGOTTEN = fault("a prompt that waits is forgotten", "api", Rule.ENDS)
GAP = fault("an event's number is left out", "api", Rule.NUMBERED)


@planted(KILLED, Conversation, "abort")
def _(original, conversation, reason=None, *, kill_tools=False):
    original(conversation, reason, kill_tools=kill_tools)
    if kill_tools:
        conversation.service.expire(conversation)


@planted(FOREIGN_DELETE, TenantSessions, "delete")
async def _(original, sessions, session_id):
    service = sessions._service
    for live_session in elsewhere(service, f"{sessions.tenant_id}/{session_id}"):
        service._supervisor.begin_ending(live_session, ExitReason.of("deleted"))
    await original(sessions, session_id)


@planted(UNLISTED, SessionService, "live_of_tenant")
def _(original, service, tenant_id):
    found = original(service, tenant_id)
    return found[:2] + found[3:]


@planted(SWALLOWED, EventLog, "append")
def _(original, log, event, *, request_id=None):
    if isinstance(event, AgentAbort):
        return LoggedEvent(event, fence=log.fence, index=log.last_index, request_id=request_id)
    return original(log, event, request_id=request_id)


@planted(TWICE, EventLog, "append")
def _(original, log, event, *, request_id=None):
    if isinstance(event, AgentEnd):
        original(log, event, request_id=request_id)
    return original(log, event, request_id=request_id)


@planted(FORGOTTEN, PromptQueue, "put")
def _(original, queue, prompt):
    if len(queue) != 1:
        original(queue, prompt)


@planted(GAP, LoggedEvent, "id")
def _(original, logged):
    return f"{logged.fence}-{logged.index + (logged.index > 3)}"


# -- tenants --------------------------------------------------------------------------------------

REFUSED = fault("a foreign session is refused in another way", "api", Rule.FOREIGN)
LONGER = fault("the answer for a foreign session is a byte longer", "api", Rule.FOREIGN)
HEADER = fault("the answer for a foreign session has a header more", "api", Rule.FOREIGN)
LISTED = fault("a list shows another tenant's session", "api", Rule.OWN_LIST)


@planted(REFUSED, SessionService, "live")
def _(original, service, key, session_id):
    if elsewhere(service, key) and service._live.get(key) is None:
        raise Unauthorized
    return original(service, key, session_id)


@planted(LONGER, SessionService, "live")
def _(original, service, key, session_id):
    if elsewhere(service, key) and service._live.get(key) is None:
        raise SessionNotFound(f"{session_id} ")
    return original(service, key, session_id)


@planted(HEADER, GatewayMiddleware, "_respond")
def _(original, middleware, context):
    key = f"{context.key and context.key.tenant_id}/{context.session_id}"
    if elsewhere(middleware._gateway.service, key):
        context.extra.append((b"x-shard", b"1"))
    return original(middleware, context)


@planted(LISTED, SessionService, "live_of_tenant")
def _(original, service, tenant_id):
    own = original(service, tenant_id)
    foreign = [each.conversation for each in service._live]
    return own + [each for each in foreign if each.tenant_id != tenant_id][:1]


# -- the wire -------------------------------------------------------------------------------------

HIDDEN = fault("a body beside an upgrade is read as a request", "pipelines", Rule.ONE_ANSWER)
LOST = fault("what a client sends ahead is lost", "pipelines", Rule.ONE_ANSWER)
CHUNKS = fault("a chunked body ends after its first chunk", "pipelines", Rule.ONE_ANSWER)
LIST = fault("a message that is a list is a failure", "frames", Rule.SOCKET)
ENDED = fault("a failure is told as the end of the session", "frames", Rule.SOCKET)
UNANSWERED = fault("a binary message has no answer", "frames", Rule.SOCKET)


@planted(HIDDEN, BoundedHttp, "_on_upgrade")
def _(original, protocol):
    protocol._has_body = False
    original(protocol)


@planted(LOST, BoundedHttp, "on_response_complete")
def _(original, protocol):
    if len(protocol._ahead) > 200:
        protocol._ahead.clear()
    original(protocol)


@planted(CHUNKS, BoundedHttp, "_feed")
def _(original, protocol, piece):
    if piece.endswith(b";a=b\r\n"):
        piece = b"0\r\n\r\n"
    original(protocol, piece)


@planted(LIST, websocket, "parsed")
def _(original, text):
    if text[:1] in ("[", b"["):
        raise RuntimeError(text)
    return original(text)


@planted(ENDED, websocket.SessionSocket, "_understood")
async def _(original, socket, conversation, message):
    asked, do = await original(socket, conversation, message)
    if asked is None:
        socket._reader.close()
    return asked, do


@planted(UNANSWERED, BoundedWebSocket, "send_receive_event_to_app")
def _(original, protocol):
    if protocol.curr_msg_data_type == "text":
        original(protocol)
    protocol.frames = []
