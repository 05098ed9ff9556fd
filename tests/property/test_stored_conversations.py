"""A service whose process dies at any commit: what was promised before holds after each restart.

A process that dies is a store that takes nothing any more, before or after a commit: what its
service still says to anybody counts for nothing. Beside it goes a plain model of what clients were
told.
"""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from frontdesk.errors import FrontdeskError
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.conversations import Applied
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.sessions.errors import SessionDead
from support.sessions import open_service, open_session, passes, scripted
from support.stored_services import SECRET, found, leave

pytestmark = pytest.mark.slow

ENDS = {"agent_end", "agent_abort"}
SESSIONS = ("s-0", "s-1")

steps = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["prompt", "prompt", "read", "leave", "abort", "delete"]),
            st.sampled_from(SESSIONS),
        ),
        st.tuples(st.just("pause"), st.integers(1, 6)),
    ),
    min_size=1,
    max_size=12,
)
lives = st.lists(
    st.tuples(steps, st.integers(1, 12), st.booleans()),
    min_size=1,
    max_size=4,
)
"""What is done in each life of the process, at which commit it dies, and whether after that."""


class MortalStore(SqliteConversations):
    """A store whose process dies at its n-th commit: it takes nothing any more, and says it did."""

    def __init__(self, directory, *, dies_at, after):
        sealing = Sealing(SECRET, directory / "keys")
        super().__init__(directory / "c.sqlite3", owner="", sealing=sealing)
        self.commits_left, self.after, self.dead = dies_at, after, False

    def apply(self, operations):
        if self.dead:
            return Applied()
        self.commits_left -= 1
        if self.commits_left > 0:
            return super().apply(operations)
        if self.after:
            super().apply(operations)
        self.dead = True
        return Applied()


class Told:
    """What clients were told while the process lived, and what agents were given."""

    def __init__(self):
        self.opened, self.deleted = {}, set()
        self.accepted, self.events = {}, {}
        self.given = Counter()

    def forget(self, session_id):
        """Take note that a session was erased, or may be: nothing is promised of it any more."""
        for each in (self.opened, self.accepted, self.events):
            each.pop(session_id, None)


class Client:
    """Do things to a service, and take note of what it answers before its process dies."""

    def __init__(self, service, store, told):
        self.service, self.store, self.told = service, store, told

    async def do(self, what, session_id):
        """Do one thing; what is refused is refused."""
        if what == "pause":
            await passes(session_id)
            return
        try:
            conversation = await self._conversation(session_id)
            await getattr(self, what)(conversation, session_id)
        except FrontdeskError:
            assert self.store.dead or session_id not in self.told.opened, (what, session_id)

    async def _conversation(self, session_id):
        if session_id in self.told.opened:
            return await found(self.service, session_id)
        try:
            conversation = await open_session(self.service, session_id=session_id)
        except FrontdeskError:
            # It was opened in an earlier life, and nobody was told.
            conversation = await found(self.service, session_id)
        if not self.store.dead:
            self.told.opened[session_id] = conversation.fence
            self.told.accepted[session_id] = []
            self.told.events[session_id] = []
        return conversation

    async def prompt(self, conversation, session_id):
        accepted = conversation.prompt("hello")
        await conversation.committed()
        if not self.store.dead:
            self.told.accepted[session_id].append(accepted.request_id)

    async def read(self, conversation, session_id):
        """Read what there is after what was read before."""
        seen = self.told.events.get(session_id, [])
        since = seen[-1][0] if seen else "0"
        reader = conversation.subscribe(since=since)
        try:
            while conversation.log.visible > reader._cursor:
                batch = await reader.next()
                if self.store.dead:
                    return
                assert isinstance(batch, list), "nothing of it is lost"
                seen.extend((each.id, each.index, each.name, each.request_id) for each in batch)
        finally:
            reader.close()

    async def leave(self, conversation, session_id):
        if self.service._live.of(conversation) is not None:
            await leave(self.service, conversation)

    async def abort(self, conversation, session_id):
        conversation.abort()
        await conversation.committed()

    async def delete(self, conversation, session_id):
        self.told.forget(session_id)
        await self.service.tenant("acme", "key-1").delete(session_id)


async def live(directory, told, doings, *, dies_at, after):
    """Live a life of the process; what happens once it is dead happened to nobody."""
    store = MortalStore(directory, dies_at=dies_at, after=after)

    async def script(turn):
        if not store.dead:
            told.given[turn.request_id] += 1
        yield "a word "
        await asyncio.sleep(0)
        yield "another"

    async with (
        CommitQueue(store) as commits,
        open_service(scripted(script), commits=commits, end_grace_s=0.05) as service,
    ):
        client = Client(service, store, told)
        for what, which in doings:
            await client.do(what, which)


async def last_life(directory, told):
    """Let all that waits come to its end, and hold what is there against what was told."""

    async def script(turn):
        told.given[turn.request_id] += 1
        yield turn.text

    sealing = Sealing(SECRET, directory / "keys")
    store = SqliteConversations(directory / "c.sqlite3", owner="", sealing=sealing)
    async with (
        CommitQueue(store) as commits,
        open_service(scripted(script), commits=commits) as service,
    ):
        for session_id in told.opened:
            try:
                conversation = await found(service, session_id)
            except SessionDead:
                conversation = service.latest(f"acme/{session_id}")
            events = await whole_log(conversation)
            for request_id in told.accepted[session_id]:
                ends = [each for each in events if each[3] == request_id and each[2] in ENDS]
                assert len(ends) == 1, (request_id, events)
            assert [each[1] for each in events] == list(range(1, len(events) + 1))
            seen = told.events[session_id]
            assert events[: len(seen)] == seen, "what was received is the log"
            assert conversation.fence == told.opened[session_id]
    assert all(count == 1 for count in told.given.values()), told.given


async def whole_log(conversation):
    """Return all events, once nothing waits any more."""
    async with asyncio.timeout(20):
        while conversation.prompts or conversation.turn or conversation.restarting:
            await asyncio.sleep(0.001)
        await conversation.committed()
        reader, events = conversation.subscribe(since="0"), []
        while conversation.log.visible > reader._cursor:
            events += await reader.next()
        reader.close()
    return [(each.id, each.index, each.name, each.request_id) for each in events]


@settings(max_examples=15, deadline=None)
@given(lives=lives)
def test_what_was_promised_holds_however_often_the_process_dies(lives, tmp_path_factory):
    note(repr(lives))
    directory = tmp_path_factory.mktemp("lives")
    told = Told()

    async def run():
        for doings, dies_at, after in lives:
            await live(directory, told, doings, dies_at=dies_at, after=after)
        await last_life(directory, told)

    asyncio.run(run())
