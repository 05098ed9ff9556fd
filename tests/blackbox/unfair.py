"""The faults that the fairness box has to find: bounds of time, memory and counts, taken away.

Planted like those of `planted.py`. `BOUNDS` says which caller's worst shows each, and by what.
"""

import re

from blackbox.planting import planted
from frontdesk.agents import values
from frontdesk.gateway import websocket_protocol
from frontdesk.gateway.fair_starts import FairStarts
from frontdesk.gateway.guardrails import TenantGuardrails
from frontdesk.gateway.http_protocol import BoundedHttp
from frontdesk.gateway.rate_limit import RateLimit
from frontdesk.gateway.request_bodies import RequestBodies
from frontdesk.gateway.unread_answers import UnreadAnswers
from frontdesk.gateway.websocket_protocol import BoundedWebSocket

BOUNDS = {}
"""By fault: the caller, and the part of `Measured.broken` that it shows in."""


def bound(name, caller, part):
    """Name a bound that is taken away, the caller that shows it, and by what."""
    BOUNDS[name] = (caller, part)
    return name


PIECES = bound("a socket's frames are read as they come", "tiny_messages", "wait")
STARTS = bound("requests start as they come", "heads_ahead", "wait")
VALUES = bound("a body's values are not counted", "lists_in_a_field", "wait")
PATTERNS = bound("patterns take the square of the time", "long_texts", "wait")
BODIES = bound("bodies may be as many as they like", "bodies_without_an_end", "memory")
UNREAD = bound("answers that nobody reads stay", "unread_messages", "memory")
ONE_LIMIT = bound("one rate limit is for everybody", "many_unknown_fields", "answers")
AHEAD = bound("requests may be as far ahead as they like", "heads_ahead", "memory")


@planted(PIECES, BoundedWebSocket, "_read_piece")
def _(original, protocol):
    usual, websocket_protocol.PIECE_BYTES = websocket_protocol.PIECE_BYTES, 1 << 20
    original(protocol)
    websocket_protocol.PIECE_BYTES = usual


@planted(STARTS, FairStarts, "start")
def _(original, starts, owner, request):
    request()


@planted(VALUES, values, "values_in")
def _(original, document, **how):
    return 1


@planted(PATTERNS, TenantGuardrails, "refuse_input")
def _(original, guardrails, tenant_id, text):
    re.search(r"\w+@\w+\.com", text[:12_000])


@planted(BODIES, RequestBodies, "enter")
def _(original, bodies, key_id, size):
    bodies._by_key[key_id] += size


@planted(UNREAD, UnreadAnswers, "enter")
def _(original, unread, connection, owner):
    pass


@planted(AHEAD, BoundedHttp, "_check_ahead")
def _(original, protocol):
    pass


@planted(ONE_LIMIT, RateLimit, "hit")
def _(original, limit, identifier):
    return original(limit, "everybody")
