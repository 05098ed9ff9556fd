"""What an observer sees of sessions: each start, each event, and what no event tells."""

import asyncio

from frontdesk.agents.events import AgentEnd, SessionEnd
from frontdesk.sessions.keeping import KeepingSettings
from support.sessions import Stream, open_service, open_session, parrot, scripted
from support.stored_services import found, stored


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

    def on_published(self, conversation):
        """See nothing new: it was seen as it happened."""

    def on_dormant(self, conversation, reason):
        assert conversation.dormant
        self.seen.append(("dormant", reason.public_text))

    def on_loaded(self, conversation):
        self.seen.append(("loaded", conversation.session_id))

    def on_unloaded(self, conversation):
        self.seen.append(("unloaded", conversation.session_id))

    def on_recovered(self, *, conversations, turns):
        self.seen.append(("recovered", conversations, turns))


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


def test_an_observer_sees_a_stored_session_rest_and_go_on(tmp_path):
    async def main():
        first, second = Observer(), Observer()
        async with stored(tmp_path, parrot, observer=first) as service:
            await open_session(service, session_id="s-1")
        async with stored(tmp_path, parrot, observer=second) as service:
            session = await found(service)
            session.prompt("hello")
            stream = Stream(session)
            await stream.until("agent_end")
            stream.close()
        return first.seen, second.seen

    first, second = run(main())
    assert first == [("started", "s-1"), ("changed", "ending"), ("dormant", "shutdown")]
    assert second[:4] == [
        ("loaded", "s-1"),
        ("changed", "restarting"),
        ("started", "s-1"),
        ("agent_restarted", 1),
    ]
    assert second[-1] == ("dormant", "shutdown")


def test_an_observer_sees_that_a_dormant_session_is_held_no_longer(tmp_path):
    async def main():
        observer = Observer()
        keeping = KeepingSettings(max_loaded=1)
        async with stored(tmp_path, parrot, observer=observer, keeping=keeping) as service:
            for name in ("s-1", "s-2"):
                await open_session(service, session_id=name)
        async with stored(tmp_path, parrot, observer=observer, keeping=keeping) as service:
            await found(service, "s-1")
            await found(service, "s-2")
            assert service.dormant_count == 1
            assert [each.session_id for each in service.all_held()] == ["s-2"]
        return observer.seen

    seen = run(main())
    assert seen[-3:] == [("loaded", "s-1"), ("unloaded", "s-1"), ("loaded", "s-2")]
