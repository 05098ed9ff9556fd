"""Whatever is done to a session in whatever order: its turns and streams keep their promises."""

import asyncio
import contextlib
import json
import logging

from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.agents import EndSession
from frontdesk.agents.events import ToolExecutionEnd, ToolExecutionStart
from frontdesk.sessions.errors import Draining, PromptQueueFull, SessionDead, SteeringQueueFull
from frontdesk.sessions.stop_reason import StopReason
from support.sessions import open_service, open_session, passes, scripted

KINDS = ("say", "raise", "wait", "deaf", "approve", "ask", "tool", "leave", "crash", "burst")

prompts = st.sampled_from(KINDS).map(lambda kind: ("prompt", kind))
others = st.sampled_from(
    [
        *(("abort", None), ("steer", None), ("approve", None), ("reject", None), ("respond", None)),
        *(
            ("deadline", None),
            ("cancel", None),
            ("delete", None),
            ("drain", None),
            ("switch", None),
        ),
        *(("read", None), ("read", "0"), ("read", "now")),
    ]
)
pauses = st.integers(0, 12).map(lambda number: ("pause", number))
ended_early = st.sampled_from(["abort", "deadline", "cancel", "delete"]).flatmap(
    lambda how: st.sampled_from(["wait", "deaf", "approve", "ask", "burst"]).map(
        lambda kind: [("prompt", kind), ("pause", 8), (how, None), ("pause", 12)]
    )
)
steps = st.lists(
    st.one_of(st.one_of(prompts, pauses, others).map(lambda step: [step]), ended_early),
    max_size=20,
).map(lambda parts: [step for part in parts for step in part])


class Crash(Exception):
    """What ends the session's agent, and not only its turn."""


def agent(released):
    """Return an agent that does what its prompt says."""

    async def deaf():
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async def act(turn):
        kind = turn.text
        yield f"{kind} "
        if kind == "burst":
            for _ in range(300):
                yield "x"
        elif kind == "raise":
            raise ValueError("raised")
        elif kind == "wait":
            await asyncio.Event().wait()
        elif kind == "deaf":
            await deaf()
        elif kind == "approve":
            yield str(await turn.approval("tool"))
        elif kind == "ask":
            yield str(await turn.ask("?"))
        elif kind == "tool":
            yield ToolExecutionStart("c", "t")
            await asyncio.sleep(0)
            yield ToolExecutionEnd("c", "t", "ok")
        elif kind == "leave":
            raise EndSession
        elif kind == "crash":
            raise Crash
        turn.steering()

    return act


class Reader:
    """A client that reads one stream to its end, from somewhere on."""

    def __init__(self, conversation, since):
        options = {"now": {"from_now": True}, None: {}}.get(since, {"since": since})
        self.reader = conversation.subscribe(**options)
        self.events = []
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        while (batch := await self.reader.next()) is not None:
            self.events += batch
        self.reader.close()


async def do(step, service, conversation, readers):
    """Take one step; what a client may be told is no failure."""
    what, how = step
    tenant = service.tenant("acme", "key-1")
    with contextlib.suppress(SessionDead, PromptQueueFull, SteeringQueueFull, Draining):
        if what == "prompt":
            conversation.prompt(how)
        elif what == "pause":
            await passes(how)
        elif what == "abort":
            conversation.abort()
        elif what == "steer":
            conversation.steer("left")
        elif what in {"approve", "reject"}:
            for pending in conversation.parts.approvals.requests():
                getattr(conversation, what)(pending.approval_id)
        elif what == "respond":
            for pending in conversation.parts.questions.requests():
                conversation.respond(pending.ref, "answer")
        elif what == "deadline" and conversation.turn is not None:
            conversation.turn.stop(StopReason("deadline", error="deadline", silent=True))
        elif what == "cancel":
            cancel_agent(service)
        elif what == "switch":
            conversation.switch_model("other")
        elif what == "delete":
            await tenant.delete(conversation.session_id)
        elif what == "drain":
            await service.drain(0.0)
        elif what == "read":
            readers.append(Reader(conversation, how))


def cancel_agent(service):
    for entry in service.store.list():
        getattr(entry.agent, "agent", entry.agent).cancel()


def assert_kept(events):
    """Check what every whole stream of a conversation that has ended must show."""
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    assert [event.name for event in events].count("session_end") == 1
    assert events[-1].name == "session_end"
    open_turn, began, ended = None, [], []
    for event in events:
        request = json.loads(event.json).get("requestId")
        if event.name == "prompt_received":
            assert open_turn is None, "two turns at a time"
            open_turn = request
            began.append(request)
        elif request is not None:
            assert request == open_turn, f"{event.name} outside its turn"
        if event.name in {"agent_end", "agent_abort"}:
            ended.append(request)
            open_turn = None
    assert began == ended
    assert len(set(began)) == len(began)


async def scenario(taken, policy):
    released = asyncio.Event()
    blueprint = scripted(
        agent(released), restart=policy, errors_end="session" if policy != "never" else "turn"
    )
    async with open_service(
        blueprint,
        abort_grace_s=0.001,
        end_grace_s=0.001,
        approval_timeout_s=30,
        max_queued_prompts=4,
    ) as service:
        conversation = await open_session(service, session_id="s-1")
        readers = [Reader(conversation, "0")]
        for step in taken:
            await do(step, service, conversation, readers)
        with contextlib.suppress(SessionDead):
            await service.tenant("acme", "key-1").delete("s-1")
        async with asyncio.timeout(20):
            await asyncio.gather(*(each.task for each in readers))
        whole = readers[0].events
        assert_kept(whole)
        for reader in readers:
            first = reader.events[0].index if reader.events else len(whole) + 1
            assert reader.events == whole[first - 1 :]
        assert (service.store.count(), len(service._live)) == (0, 0)
        released.set()


@settings(max_examples=200, deadline=None)
@given(steps, st.sampled_from(["never", "on_crash", "always"]))
def test_whatever_happens_every_turn_ends_once_and_every_stream_is_whole(taken, policy):
    logging.getLogger("frontdesk").setLevel(logging.CRITICAL + 1)
    try:
        asyncio.run(scenario(taken, policy))
    finally:
        logging.getLogger("frontdesk").setLevel(logging.NOTSET)
