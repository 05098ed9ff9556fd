"""Services whose conversations are stored, opened again as a process is."""

import shutil
import threading
from contextlib import asynccontextmanager

from frontdesk.clock import SystemClock
from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from frontdesk.records import ExitReason
from support.sessions import BOUND_S, Stream, open_service

SECRET = b"m" * 32


class MovableClock(SystemClock):
    """A clock of the day that a test moves."""

    def __init__(self):
        self.ahead_ms = 0

    def wall_ms(self):
        return super().wall_ms() + self.ahead_ms


@asynccontextmanager
async def stored(directory, *blueprints, encrypt=False, **options):
    """Open a service whose conversations are in a directory; close it as a process ends."""
    sealing = Sealing(SECRET, directory / "keys", encrypt=encrypt)
    store = SqliteConversations(directory / "c.sqlite3", owner="", sealing=sealing)
    async with (
        CommitQueue(store) as commits,
        open_service(*blueprints, commits=commits, **options) as service,
    ):
        yield service


class HeldDisk(SqliteConversations):
    """A store whose commits a test holds up."""

    def __init__(self, directory):
        sealing = Sealing(SECRET, directory / "keys")
        super().__init__(directory / "c.sqlite3", owner="", sealing=sealing)
        self.moves, self.held = threading.Event(), threading.Event()
        self.moves.set()

    def hold(self):
        """Hold up the next commit, and those behind it."""
        self.held.clear()
        self.moves.clear()

    def apply(self, operations):
        if not self.moves.is_set():
            self.held.set()
            assert self.moves.wait(BOUND_S)
        return super().apply(operations)


@asynccontextmanager
async def on_held_disk(directory, *blueprints, **options):
    """Open a service whose conversations are on such a disk."""
    disk = HeldDisk(directory)
    async with (
        CommitQueue(disk) as commits,
        open_service(*blueprints, commits=commits, **options) as service,
    ):
        service.disk = disk
        try:
            yield service
        finally:
            disk.moves.set()


def as_killed(directory):
    """Return a copy of what a service has stored, as a kill at this moment would leave it."""
    copy = directory.with_name(f"{directory.name}-killed")
    shutil.copytree(directory, copy)
    return copy


async def found(service, session_id="s-1", tenant="acme"):
    """Return a session as a request finds it."""
    sessions = service.tenant(tenant, "key-1")
    if (loading := sessions.loading(session_id)) is not None:
        await loading
    return sessions.find(session_id)


async def turned(conversation, *texts):
    """Have turns of these prompts, one after another; return their request ids."""
    ids = []
    stream = Stream(conversation, since=None, from_now=True)
    for text in texts:
        ids.append(conversation.prompt(text).request_id)
        await stream.until("agent_end", "agent_abort")
    stream.close()
    return ids


async def exported(service, session_id="s-1", tenant="acme"):
    """Return a session's lines."""
    await found(service, session_id, tenant)
    parts = [part async for part in service.tenant(tenant, "key-1").export(session_id)]
    return b"".join(parts).splitlines(keepends=True)


async def imported(service, lines, *, session_id=None, tenant="acme"):
    """Import lines as they come over a network: cut anywhere."""
    sessions = service.tenant(tenant, "key-1")
    reader = sessions.importing()
    whole = b"".join(lines)
    for start in range(0, len(whole), 1000):
        reader.feed(whole[start : start + 1000])
    return await sessions.import_lines(reader, session_id=session_id)


async def leave(service, conversation):
    """End the agent of a session as its idle time does: it is dormant then."""
    live_session = service._live.of(conversation)
    reason = ExitReason.of("expired")
    await service._supervisor.begin_ending(live_session, reason, dormant=True)
