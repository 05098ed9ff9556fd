"""Several processes over one storage: what a dead one owned is another's, whole and once."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from frontdesk import SessionStore
from frontdesk.agents import Blueprints
from frontdesk.cluster.errors import OwnerUnreachable
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.sessions.context import SessionSettings
from frontdesk.sessions.keeping_settings import DAY_MS, KeepingSettings
from frontdesk.sessions.service import SessionService
from gateway.requirements import covers
from support.sessions import RecordingMeter, Stream, data_of, names, open_session, scripted, text
from support.stored_services import MovableClock, leave

pytestmark = pytest.mark.anyio


class Processes:
    """A storage, and which processes live that own something in it."""

    def __init__(self, directory):
        sealing = Sealing(b"m" * 32, directory / "keys")
        self.store = SqliteConversations(directory / "c.sqlite3", owner="none", sealing=sealing)
        self.living = set()

    @asynccontextmanager
    async def process(self, owner, agent, **others):
        """Serve as one of them."""
        self.living.add(owner)
        view = self.store.owned_by(owner, lives=self.living.__contains__)
        options = {
            "keeping": KeepingSettings(owner=owner),
            "settings": SessionSettings(abort_grace_s=0.2, end_grace_s=1.0),
            **others,
        }
        agents = Blueprints([agent])
        with SessionStore() as registry:
            async with (
                CommitQueue(view) as commits,
                SessionService(registry, agents, commits=commits, **options) as service,
            ):
                yield service
            assert registry.closed or registry.count() == 0


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    yield found
    found.store.close()


async def found(service, session_id="s-1"):
    """Return a session as a request finds it."""
    sessions = service.tenant("acme", "key-1")
    if (loading := sessions.loading(session_id)) is not None:
        await loading
    return sessions.find(session_id)


def waiting(**rules):
    """Return an agent that says what it knows, and waits in turns that are called `wait`."""

    async def script(turn):
        yield "working" if turn.text == "wait" else str([each.content for each in turn.history])
        if turn.text == "wait":
            await asyncio.Event().wait()

    return scripted(script, **rules)


async def test_what_a_living_process_owns_is_its_own(processes):
    agent = waiting()
    async with processes.process("a", agent) as a, processes.process("b", agent) as b:
        await open_session(a, session_id="s-1")
        with pytest.raises(OwnerUnreachable):
            await found(b)
        assert await b.owner_of("acme", "s-1") == "a"
        assert await b.owner_of("acme", "s-2") is None


@covers("durable.owners-do-not-interleave", "durable.stored-before-2xx")
async def test_a_dead_processs_turn_is_aborted_once_and_what_waits_goes_on(processes):
    agent = waiting()
    async with processes.process("a", agent) as a, processes.process("b", agent) as b:
        there = await open_session(a, session_id="s-1")
        stream = Stream(there)
        cut, queued = there.prompt("wait"), there.prompt("next")
        seen = await stream.until("message_delta")
        processes.living.discard("a")
        here = await found(b)
        goes_on = Stream(here, since=seen[-1].id)
        events = await goes_on.until("agent_end")
        goes_on.close()
        assert [each.index for each in (*seen, *events)] == list(
            range(1, len(seen) + len(events) + 1)
        )
        ends = [each for each in events if each.name in ("agent_abort", "agent_end")]
        assert [(each.name, each.request_id) for each in ends] == [
            ("agent_abort", cut.request_id),
            ("agent_end", queued.request_id),
        ]
        assert data_of(ends[0])["reason"] == "interrupted"
        assert text(events) == "['wait', 'working']"
        assert await b.owner_of("acme", "s-1") == "b"
        # The one that was held to be dead lives: it says nothing more, and its stream is cut.
        there.prompt("late")
        with pytest.raises(StorageUnavailable):
            await there.committed()
        assert await stream.rest() == []
        async with asyncio.timeout(20):
            while a.lives(there_key(a, there)):
                await asyncio.sleep(0.01)


def there_key(service, conversation):
    return f"{conversation.tenant_id}/{conversation.session_id}"


async def test_of_two_that_are_asked_at_once_one_has_it(processes):
    agent = waiting()
    async with processes.process("b", agent) as b, processes.process("c", agent) as c:
        async with processes.process("a", agent) as a:
            await open_session(a, session_id="s-1")
        processes.living.discard("a")
        answers = await asyncio.gather(found(b), found(c), return_exceptions=True)
        (has,) = [each for each in answers if not isinstance(each, OwnerUnreachable)]
        assert has.session_id == "s-1"
        assert sum(isinstance(each, OwnerUnreachable) for each in answers) == 1


async def test_a_successor_takes_over_at_its_start(processes):
    agent = waiting()
    async with processes.process("a", agent) as a:
        there = await open_session(a, session_id="s-1")
        there.prompt("wait")
        await there.committed()
        processes.living.discard("a")
        async with processes.process("a2", agent) as again:
            here = await found(again)
            stream = Stream(here)
            assert names(await stream.until("agent_abort"))[-1] == "agent_abort"
            stream.close()


@pytest.mark.parametrize("is_told", [False, True], ids=["silent", "told before"])
async def test_that_a_cut_off_turns_usage_is_unknown_is_counted_once_over_all_processes(
    processes, is_told
):
    async def script(turn):
        if is_told:
            turn.usage_unknown()
        yield "working"
        await asyncio.Event().wait()

    agent, meters = scripted(script), {name: RecordingMeter() for name in "abc"}

    def process(owner):
        return processes.process(owner, agent, meter=meters[owner])

    def counted():
        return [meters[name].total("unknown_turns") for name in "abc"]

    async with process("a") as a:
        there = await open_session(a, session_id="s-1", model="large")
        stream = Stream(there)
        a.tenant("acme", "key-2").find("s-1").prompt("one", api_key="key-2")
        await stream.until("message_delta")
        await there.committed()
        processes.living.discard("a")
        async with process("b") as b:
            assert (await found(b)).counters.unknown_usage == 1
            processes.living.discard("b")
            async with process("c") as c:
                assert (await found(c)).counters.unknown_usage == 1
        stream.close()
        assert counted() == ([1, 0, 0] if is_told else [0, 1, 0])
    said = [each for each in meters["b"].recorded if each.get("unknown_turns")]
    if not is_told:
        assert said == [
            {"tenant_id": "acme", "api_key": "key-2", "model": "large", "unknown_turns": 1}
        ]


@pytest.mark.parametrize("left", ["dormant", "ended", "live"])
async def test_what_a_dead_process_left_is_erased_once_its_time_is_over(processes, left):
    clock, agent = MovableClock(), waiting()
    async with processes.process("b", agent, clock=clock) as b, processes.process("a", agent) as a:
        conversation = await open_session(a, session_id="s-1")
        if left == "dormant":
            await leave(a, conversation)
        if left == "ended":
            await a.tenant("acme", "key-1").end("s-1")
        await conversation.committed()
        assert processes.store.find("acme", "s-1").state == left
        clock.ahead_ms = 31 * DAY_MS
        await b._keeping.retention.sweep()
        assert processes.store.count("acme") == 1, "its owner lives"
        processes.living.discard("a")
        clock.ahead_ms = 29 * DAY_MS
        await b._keeping.retention.sweep()
        assert processes.store.count("acme") == 1, "its time is not over"
        clock.ahead_ms = 31 * DAY_MS
        await b._keeping.retention.sweep()
        assert processes.store.count("acme") == 0


async def test_what_waits_at_a_dead_process_is_not_erased(processes):
    clock, agent = MovableClock(), waiting()
    async with processes.process("b", agent, clock=clock) as b, processes.process("a", agent) as a:
        conversation = await open_session(a, session_id="s-1")
        conversation.prompt("wait")
        await conversation.committed()
        processes.living.discard("a")
        clock.ahead_ms = 31 * DAY_MS
        await b._keeping.retention.sweep()
        assert processes.store.count("acme") == 1


async def test_what_a_dead_process_left_ends_at_another_once_it_is_too_old(processes):
    clock, agent = MovableClock(), waiting(max_age_s=600)
    async with processes.process("b", agent, clock=clock) as b, processes.process("a", agent) as a:
        conversation = await open_session(a, session_id="s-1")
        await leave(a, conversation)
        await conversation.committed()
        clock.ahead_ms = 3_600_000
        await b._keeping.retention.sweep()
        assert processes.store.find("acme", "s-1").state == "dormant", "its owner lives"
        processes.living.discard("a")
        await b._keeping.retention.sweep()
        await b._keeping.commits.committed(conversation.number)
        assert processes.store.find("acme", "s-1").state == "ended"


async def test_no_two_processes_give_a_conversation_one_number(processes):
    agent = waiting()
    async with processes.process("a", agent) as a, processes.process("b", agent) as b:
        numbers = {
            (await open_session(each, session_id=f"{number}-{owner}")).number
            for number in range(5)
            for owner, each in (("a", a), ("b", b))
        }
        assert len(numbers) == 10
        assert len({number % 1024 for number in numbers}) == 2
