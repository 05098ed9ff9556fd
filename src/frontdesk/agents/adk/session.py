"""What one session keeps of its agent between turns: a session of ADK's, and how a turn was cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService, Session
from google.genai import types

from frontdesk.agents.adk.memory import bounded, missing_results, rebuilt
from frontdesk.agents.adk.plugin import OWN_MODEL, TurnPlugin
from frontdesk.agents.adk.run import ADKRun
from frontdesk.agents.records import SessionContext
from frontdesk.agents.turn import Turn

__all__ = ["OWN_MODEL", "ADKSession"]


class ADKSession:
    """One session: the tenant is ADK's user, and the session's id is that of ADK's."""

    __slots__ = ("_context", "_cut", "_runner", "_sessions")

    def __init__(self, runner: Runner, context: SessionContext) -> None:
        self._runner, self._context = runner, context
        # One that keeps sessions in memory only would keep them for ever: ours goes with us.
        in_memory = isinstance(runner.session_service, InMemorySessionService)
        self._sessions = InMemorySessionService() if in_memory else runner.session_service
        self._cut: tuple[list[str], dict[str, Any]] = [], {}

    async def answer(self, turn: Turn) -> None:
        """Run one turn. What cuts it short leaves what it has said and done to be remembered."""
        context = self._context
        await self._mend(turn)
        plugin = TurnPlugin(turn, self._sessions)
        given = self._runner
        runner = Runner(
            app=given.app.model_copy(update={"plugins": [*given.app.plugins, plugin]}),
            app_name=given.app_name,
            session_service=self._sessions,
            artifact_service=given.artifact_service,
            memory_service=given.memory_service,
            credential_service=given.credential_service,
        )
        run = ADKRun(turn, runner, plugin)
        self._cut = run.sent, plugin.results
        try:
            await run.go(context.tenant_id, context.session_id)
            self._cut = [], {}
        finally:
            plugin.close_turn()
        if isinstance(self._sessions, InMemorySessionService):
            kept = self._sessions.sessions[given.app_name][context.tenant_id][context.session_id]
            kept.events = bounded(kept.events)

    async def _mend(self, turn: Turn) -> None:
        """Make the session of ADK's, or end in it what a turn before this one left open."""
        context, service, name = self._context, self._sessions, self._runner.app_name
        whose: Any = {
            "app_name": name,
            "user_id": context.tenant_id,
            "session_id": context.session_id,
        }
        session: Session | None = await service.get_session(**whose)
        if session is None:
            session = await service.create_session(**whose)
        author = self._runner.agent.name
        if not session.events:
            await self._append(session, rebuilt(turn.history, author=author))
            return
        sent, results = self._cut
        await self._append(session, list(missing_results(session.events, results)))
        if sent:
            said = types.ModelContent(parts=[types.Part(text="".join(sent))])
            last = session.events[-1].invocation_id
            event = Event(invocation_id=last, author=author, content=said)
            await self._append(session, [event])

    async def _append(self, session: Session, events: Iterable[Event]) -> None:
        for event in events:
            await self._sessions.append_event(session=session, event=event)
