"""An engine of a program, with what passes its seam written as history."""

import time
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.history import CreateAnswered, CreateAsked, EndTold, Renewed
from frontdesk.cluster.errors import EngineUnavailable
from frontdesk.errors import FrontdeskError

now = time.monotonic


@asynccontextmanager
async def open_engine(address):
    """Open the engine of an address: `local:/path/of/socket`, or Valkey's own URLs."""
    kind, _, rest = address.partition(":")
    if kind == "local":
        from frontdesk.cluster.local.engine import LocalEngine

        engine = LocalEngine(Path(rest))
    else:
        from frontdesk.cluster.valkey.engine import ValkeyEngine
        from frontdesk.cluster.valkey.engine_address import EngineAddress

        engine = ValkeyEngine(EngineAddress.parse(address))
    async with engine:
        yield engine


class RecordedEngine:
    """An engine whose creates, ends and renewals are written as history. Else it is the engine."""

    def __init__(self, engine, program):
        self._engine, self._program = engine, program
        self._asked = set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def create(self, entry, *, limits):
        """Create an entry: what is asked, once a token, and what is known to have come of it."""
        told, token = self._program.history.write, entry.token
        if token not in self._asked:
            self._asked.add(token)
            told(
                CreateAsked(
                    at=now(),
                    node=self._program.name,
                    session_id=entry.session_id,
                    agent=self._program.agent_of(entry.session_id),
                    token=token,
                    incarnation=entry.incarnation,
                )
            )
        try:
            fence = await self._engine.create(entry, limits=limits)
        except EngineUnavailable:
            raise  # it is not known what came of it
        except FrontdeskError as refusal:
            told(CreateAnswered(at=now(), token=token, refused=type(refusal).__name__))
            raise
        told(CreateAnswered(at=now(), token=token, fence=fence))
        return fence

    async def end(self, incarnation, ends):
        """Tell ends: from here on they may be over."""
        name, told = self._program.name, self._program.history.write
        for end in ends:
            told(EndTold(at=now(), node=name, session_id=end.session_id, fence=end.fence))
        await self._engine.end(incarnation, ends)

    def lease_connection(self):
        """Return the connection of renewals, recorded."""
        return RecordedLease(self._engine.lease_connection(), self._program)


class RecordedLease:
    """A lease's connection whose renewals are written as history."""

    def __init__(self, connection, program):
        self._connection, self._program = connection, program
        self.close = connection.close

    def renew(self, renewal):
        """Renew; what was answered is history."""
        asked_at = now()
        answer = self._connection.renew(renewal)
        self._program.history.write(
            Renewed(
                at=now(),
                node=self._program.name,
                asked_at=asked_at,
                incarnation=renewal.incarnation,
                matches=answer.matches,
            )
        )
        return answer
