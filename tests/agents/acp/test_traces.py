"""An ACP agent is told which trace its turn is part of, where there are traces."""

import contextvars
import json
from dataclasses import dataclass, field

import pytest

from support.acp import open_acp_service, open_session, turn_of
from support.sessions import text

pytestmark = pytest.mark.anyio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Trace:
    """A trace of one turn, as the service is given it."""

    traceparent: str = PARENT
    trace_id: str = PARENT.split("-")[1]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class Tracer:
    """Have each turn be of one trace, and keep what is asked."""

    def __init__(self):
        self.begun = []

    def origin(self):
        return "where the prompt was accepted"

    def begin_turn(self, conversation, *, origin, queued_s):
        self.begun.append((conversation.session_id, origin, queued_s >= 0))
        return Trace()


async def test_an_agent_gets_the_trace_of_its_turn_as_the_protocol_has_it():
    tracer = Tracer()
    async with open_acp_service("Traced") as service:
        conversation = await open_session(service)
        assert json.loads(text(await turn_of(conversation, "hello"))) is None
        service.trace(tracer)
        told = json.loads(text(await turn_of(conversation, "again")))
    assert told == {"traceparent": PARENT}
    assert tracer.begun == [(conversation.session_id, "where the prompt was accepted", True)]
