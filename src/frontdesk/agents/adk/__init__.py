"""Agents on Google's Agent Development Kit: the blueprint kind `adk`.

The operator's agent answers as it is: its tools, sub-agents, callbacks and models are its own, and
so are the services of a `Runner`. It works the same in the gateway and in a process, as it knows
only its `Turn`.

`session.py` is what one session keeps, `run.py` one turn, `plugin.py` what the framework tells of
it and is told, `memory.py` what a session's history lacks after a turn that was cut short.
"""

from __future__ import annotations

import inspect
from typing import Any

from frontdesk.errors import InvalidType, MissingExtra

try:
    from google.adk.apps import App
    from google.adk.runners import Runner
    from google.adk.sessions import InMemorySessionService
    from google.adk.workflow import BaseNode

    from frontdesk.agents.adk.session import OWN_MODEL, ADKSession
except ImportError as _missing:
    raise MissingExtra("adk", part="the blueprint kind adk", missing="google-adk") from _missing

from frontdesk.agents.blueprints import AuthorRules
from frontdesk.agents.protocol import AgentFunction
from frontdesk.agents.records import SessionContext
from frontdesk.agents.targets import building, import_target

OPTIONS = frozenset({"system_prompt", "working_dir", "max_turns", "max_tokens", "user_data"})
"""The options of a session that it knows."""

APP_NAME = "frontdesk"
"""The name of the application, where an agent comes without one."""


class ADKProgram:
    """Answer with an agent of ADK's, with a workflow, an `App` or a `Runner`.

    `target` is one of these, a function of the `SessionContext` that returns one, or the name of
    either (`module:name`). A `Runner` keeps its services; the others have a session service in
    memory, one a session. Raises `InvalidType` for what is none of these.
    """

    rules: AuthorRules = AuthorRules(models=(OWN_MODEL,), options=OPTIONS)

    def __init__(self, target: Any) -> None:
        found = import_target(target) if isinstance(target, str) else target
        self._target = target if isinstance(target, str) else "target"
        self._function = found if callable(found) and not inspect.isclass(found) else None
        self._runner = None if self._function is not None else self._runner_of(found)

    def check(self, context: SessionContext) -> None:
        """Refuse nothing: a model is found when it is called."""

    def open(self, context: SessionContext) -> AgentFunction:
        """Return a session's own part; `CreateFailed` where a function returns no agent.

        A `CreateFailed` that the function raises itself is for the client, as it is.
        """
        if self._function is None:
            assert self._runner is not None, "a program has a runner or a function"
            return ADKSession(self._runner, context).answer
        with building("agent", target=self._target):
            return ADKSession(self._runner_of(self._function(context)), context).answer

    def _runner_of(self, found: Any) -> Runner:
        if isinstance(found, Runner):
            return found
        if isinstance(found, BaseNode):
            found = App(name=APP_NAME, root_agent=found)
        if isinstance(found, App):
            return Runner(app=found, session_service=InMemorySessionService())
        expected = "an agent of ADK's, a workflow, an App or a Runner, or a function of the session"
        raise InvalidType(self._target, expected=expected, got=type(found).__name__)
