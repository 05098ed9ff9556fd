"""Services whose conversations are stored, opened again as a process is."""

from contextlib import asynccontextmanager

from frontdesk.persistence.commit_queue import CommitQueue
from frontdesk.persistence.sealing import Sealing
from frontdesk.persistence.sqlite_conversations import SqliteConversations
from support.sessions import open_service

SECRET = b"m" * 32


@asynccontextmanager
async def stored(directory, *blueprints, **options):
    """Open a service whose conversations are in a directory; close it as a process ends."""
    sealing = Sealing(SECRET, directory / "keys")
    store = SqliteConversations(directory / "c.sqlite3", owner="", sealing=sealing)
    async with (
        CommitQueue(store) as commits,
        open_service(*blueprints, commits=commits, **options) as service,
    ):
        yield service


async def found(service, session_id="s-1", tenant="acme"):
    """Return a session as a request finds it."""
    sessions = service.tenant(tenant, "key-1")
    if (loading := sessions.loading(session_id)) is not None:
        await loading
    return sessions.find(session_id)
