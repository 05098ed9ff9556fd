"""How long conversations are stored, how many, how large, and what turns do while none can be."""

import asyncio
import random
import shutil
from contextlib import asynccontextmanager

import pytest

from frontdesk import SessionLimitExceeded, SessionNotFound
from frontdesk.agents.attachments import Attachment
from frontdesk.agents.events import Gap, ModelSwitched
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.errors import StorageUnavailable
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.sessions import conversation_record
from frontdesk.sessions.errors import ConversationFull, ReaderTooSlow, SessionDead
from frontdesk.sessions.keeping_settings import DAY_MS, KeepingSettings, StorageLimits
from support.sessions import (
    Stream,
    data_of,
    names,
    open_service,
    open_session,
    parrot,
    scripted,
    soon,
    text,
    waiting,
)
from support.stored_services import SECRET, MovableClock, found, leave, stored, turned

pytestmark = pytest.mark.anyio


async def dormant(service, session_id, **order):
    """Open a session, have one turn of it, and leave it dormant."""
    conversation = await open_session(service, session_id=session_id, **order)
    stream = Stream(conversation)
    conversation.prompt("hello")
    await stream.until("agent_end")
    stream.close()
    await leave(service, conversation)
    await conversation.committed()
    return conversation


@pytest.mark.slow
async def test_what_nobody_used_for_its_time_is_erased_and_the_rest_is_not(tmp_path):
    clock = MovableClock()
    limits = StorageLimits(retention_days=30, of_tenants={"other": 60})
    keeping = KeepingSettings(limits=limits)
    long = scripted(echo, name="long", retention_days=50)
    async with stored(tmp_path, parrot, long, clock=clock, keeping=keeping) as service:
        await dormant(service, "s-1")
        await dormant(service, "s-2", blueprint="long")
        await dormant(service, "s-3", tenant="other")
        await open_session(service, session_id="s-live")
        for days, left in ((29, 3), (31, 2), (51, 1), (61, 0)):
            clock.ahead_ms = days * DAY_MS
            await service._keeping.retention.sweep()
            there = [await is_there(service, each) for each in ("s-1", "s-2")]
            there.append(await is_there(service, "s-3", tenant="other"))
            assert sum(there) == left, days
        assert await is_there(service, "s-live")


async def test_what_waits_for_an_agent_is_not_erased(tmp_path):
    async with stored(tmp_path, scripted(waiting, name="b"), end_grace_s=0.05) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("first")
        conversation.prompt("second")
        await conversation.committed()
    clock = MovableClock()
    clock.ahead_ms = 100 * DAY_MS
    async with stored(tmp_path, parrot, clock=clock) as service:
        await service._keeping.retention.sweep()
        assert len((await found(service)).prompts) == 1


async def test_a_session_that_is_used_just_when_its_time_is_over_stays(tmp_path):
    clock = MovableClock()
    async with stored(tmp_path, parrot, clock=clock) as service:
        conversation = await dormant(service, "s-1")
        stream = Stream(conversation)
        clock.ahead_ms = 31 * DAY_MS
        await service._keeping.retention.sweep()
        assert conversation.ended is None
        stream.close()
        await service._keeping.retention.sweep()
        assert conversation.ended is not None


async def test_a_dormant_session_that_nobody_asks_for_ends_when_it_is_too_old(tmp_path):
    async with stored(tmp_path, scripted(echo, name="b")) as service:
        await dormant(service, "s-1")
    clock = MovableClock()
    clock.ahead_ms = 3_600_000
    async with stored(tmp_path, scripted(echo, name="b", max_age_s=600), clock=clock) as service:
        await service._keeping.retention.sweep()
        with pytest.raises(SessionDead):
            service.live("acme/s-1", "s-1")


@pytest.mark.slow
async def test_a_tenant_has_no_more_stored_sessions_than_it_may(tmp_path):
    keeping = KeepingSettings(limits=StorageLimits(per_tenant=2))
    volatile = scripted(echo, name="volatile", durable=False)
    async with stored(tmp_path, parrot, volatile, keeping=keeping) as service:
        for n in range(2):
            await open_session(service, session_id=f"s-{n}")
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(service)
        assert refused.value.scope == "stored_per_tenant"
        await open_session(service, tenant="other")
        await open_session(service, blueprint="volatile")
        await service.tenant("acme", "key-1").delete("s-0")
        await open_session(service)


@pytest.mark.slow
async def test_of_a_session_that_is_too_large_the_oldest_events_go_and_the_rest_stays(tmp_path):
    keeping = KeepingSettings(limits=StorageLimits(max_bytes=400_000))
    async with stored(tmp_path, scripted(random_words), keeping=keeping, min_events=1) as service:
        conversation = await open_session(service, session_id="s-1")
        for _ in range(8):
            stream = Stream(conversation, since=None, from_now=True)
            conversation.prompt("40000")
            await stream.until("agent_end")
            stream.close()
        await soon(lambda: conversation.log.oldest > 1 and len(service._keeping._beside) == 2)
        whole = Stream(conversation)
        gap = await whole.reader.next()
        assert isinstance(gap, Gap)
        assert gap.resumes_at == conversation.log.id_of(conversation.log.oldest)
        events = await whole.until("agent_end")
        assert events[0].index == conversation.log.oldest
        whole.close()
        conversation.prompt("1")


async def test_a_session_that_is_too_large_without_its_events_is_full_until_it_may_be_larger(
    tmp_path,
):
    limits = StorageLimits(max_bytes=100_000)
    keeping = KeepingSettings(limits=limits)
    async with stored(tmp_path, scripted(random_words), keeping=keeping) as service:
        conversation = await open_session(service, session_id="s-1")
        for _ in range(2):
            stream = Stream(conversation, since=None, from_now=True)
            conversation.prompt("80000")
            await stream.until("agent_end")
            stream.close()
        await soon(lambda: conversation.record.least_bytes)
        with pytest.raises(ConversationFull):
            conversation.prompt("1")
        assert len(conversation.history.all()) == 4
        service.follow_limits(StorageLimits())
        conversation.prompt("1")


@pytest.mark.slow
async def test_the_oldest_events_of_a_turn_that_does_not_end_go_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(conversation_record, "GROWN_BYTES", 40_000)
    keeping = KeepingSettings(limits=StorageLimits(max_bytes=400_000))
    said, go = [], asyncio.Event()

    async def endless(turn):
        async for words in random_words(turn):
            said.append(words)
            yield words
            if len(said) % 40 == 0:
                await conversation.committed()
        await go.wait()

    async with stored(tmp_path, scripted(endless), keeping=keeping, min_events=1) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("2000000")
        await soon(lambda: len(said) == 2000 and len(service._keeping._beside) == 2)
        await conversation.committed()
        kept = await service._keeping.commits.read(lambda store: store.find("acme", "s-1"))
        assert kept.oldest_index > 1
        assert kept.held_bytes < 800_000, "of more than two million that were said"
        assert conversation.turn is not None
        whole = Stream(conversation)
        gap = await whole.reader.next()
        assert gap.resumes_at == conversation.log.id_of(conversation.log.oldest)
        go.set()
        events = await whole.until("agent_end")
        assert [each.index for each in events] == [
            *range(conversation.log.oldest, events[-1].index + 1)
        ]
        whole.close()
        conversation.prompt("1")


async def test_a_turn_whose_oldest_events_went_is_cut_off_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(conversation_record, "GROWN_BYTES", 40_000)
    keeping = KeepingSettings(limits=StorageLimits(max_bytes=200_000))

    async def endless(turn):
        async for words in random_words(turn):
            yield words
        await asyncio.Event().wait()

    first, second = tmp_path / "first", tmp_path / "second"
    async with stored(first, scripted(endless), keeping=keeping, min_events=1) as service:
        conversation = await open_session(service, session_id="s-1")
        conversation.prompt("400000")
        await soon(lambda: conversation.log.oldest > 3 and len(service._keeping._beside) == 2)
        await conversation.committed()
        # What is there at this moment is what a process leaves that is killed now.
        shutil.copytree(first, second)
    async with stored(second, scripted(random_words), keeping=keeping) as service:
        conversation = await found(service)
        stream = Stream(conversation, since=None, from_now=True)
        conversation.prompt("1")
        await stream.until("agent_end")
        stream.close()
        roles = [each.role for each in conversation.history.all()]
        assert roles == ["user", "assistant", "user", "assistant"]


async def test_a_stream_that_is_behind_what_went_meanwhile_is_told_so(tmp_path):
    async with stored(
        tmp_path, scripted(random_words), min_events=1, max_log_bytes=2000
    ) as service:
        conversation = await open_session(service, session_id="s-1")
        for _ in range(2):
            await turned(conversation, "20000")
        stream = Stream(conversation, since="0")
        conversation.record.drop(conversation.log.last_index - 1)
        await conversation.committed()
        with pytest.raises(ReaderTooSlow):
            await stream.reader.next()
        stream.close()


async def test_the_files_of_turns_that_have_ended_take_no_room(tmp_path):
    file = Attachment(name="a.bin", media_type="text/plain", content=b"x" * 60_000)
    keeping = KeepingSettings(limits=StorageLimits(max_bytes=100_000))
    agent = scripted(random_words, attachments=("text/*",))
    async with stored(tmp_path, agent, keeping=keeping, min_events=1) as service:
        conversation = await open_session(service, session_id="s-1")
        for _ in range(5):
            stream = Stream(conversation, since=None, from_now=True)
            conversation.prompt("1", attachments=[file])
            assert conversation.record.stored_bytes > file.size
            await stream.until("agent_end")
            stream.close()
            assert conversation.record.stored_bytes < file.size
        await conversation.committed()
        assert conversation.log.oldest == 1
    async with stored(tmp_path, agent, keeping=keeping, min_events=1) as service:
        conversation = await found(service)
        assert conversation.record.stored_bytes < file.size
        conversation.prompt("1")


async def random_words(turn):
    """Say so many characters that nothing can compress."""
    for _ in range(max(1, int(turn.text) // 1000)):
        yield random.Random().randbytes(500).hex()


# -- a storage that takes nothing ------------------------------------------------------------------


class Disk(SqliteConversations):
    """A store that a test fills up."""

    full = False

    def apply(self, operations):
        if self.full:
            raise StorageUnavailable("the disk is full")
        return super().apply(operations)


@asynccontextmanager
async def on_disk(directory, *blueprints, **options):
    disk = Disk(directory / "c.sqlite3", owner="", sealing=Sealing(SECRET, directory / "keys"))
    async with (
        CommitQueue(disk, retry_s=0.02) as commits,
        open_service(*blueprints, commits=commits, **options) as service,
    ):
        service.disk = disk
        yield service


@pytest.mark.slow
async def test_while_the_storage_is_full_streams_stand_still_and_it_heals_by_itself(tmp_path):
    go = asyncio.Event()

    async def script(turn):
        yield "before "
        await go.wait()
        yield "after"

    async with on_disk(tmp_path, scripted(script)) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("hello")
        await stream.until("message_delta")
        service.disk.full = True
        go.set()
        await soon(lambda: service._keeping.commits.unavailable)
        assert conversation.log.visible < conversation.log.last_index
        with pytest.raises(StorageUnavailable):
            conversation.prompt("more")
        with pytest.raises(StorageUnavailable):
            await open_session(service, session_id="s-new")
        assert conversation.history.all()[0].content == "hello"
        service.disk.full = False
        events = await stream.until("agent_end")
        assert text(events) == "after"
        stream.close()


async def test_turns_end_where_the_storage_takes_nothing_for_too_long(tmp_path):
    keeping = KeepingSettings(patience_s=0.1)
    async with on_disk(tmp_path, scripted(waiting), keeping=keeping) as service:
        conversation = await open_session(service)
        stream = Stream(conversation)
        conversation.prompt("hello")
        await stream.until("message_delta")
        service.disk.full = True
        conversation.log.append_shortened(ModelSwitched("a", "b"))
        await soon(lambda: conversation.turn is None)
        assert names(stream.events)[-1] == "message_delta"
        service.disk.full = False
        events = await stream.until("agent_abort")
        assert data_of(events[-1])["reason"] == "storage"
        stream.close()


# -- helpers ---------------------------------------------------------------------------------------


async def echo(turn):
    yield turn.text


async def is_there(service, session_id, tenant="acme"):
    try:
        await found(service, session_id, tenant)
    except SessionNotFound:
        return False
    return True
