"""What an observer sees of sessions: each start, each event, and what no event tells."""

import asyncio

from frontdesk.agents.events import AgentEnd, SessionEnd
from support.sessions import Stream, open_service, open_session, parrot, scripted


class Observer:
    """Note what is seen."""

    def __init__(self):
        self.seen = []

    def on_started(self, conversation):
        self.seen.append(("started", conversation.session_id))

    def on_event(self, conversation, event, logged):
        assert logged.name == event.name
        if isinstance(event, SessionEnd):
            assert str(conversation.ending_reason) == event.reason
        self.seen.append((event.name, logged.index))

    def on_changed(self, conversation):
        self.seen.append(("changed", conversation.phase.value))


def run(main):
    return asyncio.run(asyncio.wait_for(main, 60))


def test_an_observer_sees_a_session_from_its_start_to_its_end_in_order():
    async def main():
        observer = Observer()
        async with open_service(parrot, observer=observer) as service:
            session = await open_session(service, session_id="s-1")
            session.prompt("hello")
            stream = Stream(session)
            await stream.until("agent_end")
            stream.close()
            await service.tenant("acme", "key-1").delete("s-1")
        return observer.seen

    seen = run(main())
    assert seen[0] == ("started", "s-1")
    names = [name for name, _ in seen]
    assert names[1:3] == ["prompt_received", "agent_start"]
    assert names[-3:] == [AgentEnd.name, "changed", SessionEnd.name]
    indices = [number for name, number in seen if name not in ("started", "changed")]
    assert indices == list(range(1, len(indices) + 1))


def test_an_observer_sees_that_a_session_restarts():
    async def crash(turn):
        raise RuntimeError("on purpose")
        yield

    async def main():
        observer = Observer()
        crashing = scripted(crash, restart="always", errors_end="session")
        async with open_service(crashing, observer=observer) as service:
            session = await open_session(service)
            session.prompt("go")
            stream = Stream(session)
            await stream.until("agent_restarted")
            stream.close()
        return observer.seen

    names = [name for name, _ in run(main())]
    assert names.index("changed") < names.index("agent_restarted")
