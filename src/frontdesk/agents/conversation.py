"""A conversation: what a client sees of a session. (Interface; the rest follows.)"""

from __future__ import annotations

from typing import Any, Protocol

from frontdesk.agents.reader import EventReader
from frontdesk.agents.records import Accepted, CallbackTool, SessionFacts, State
from frontdesk.session import ExitReason


class Conversation(Protocol):
    """History, prompt queue and event stream of one session. All of it belongs to one loop.

    It outlives the registry's entry where a restarted agent takes over.
    """

    session_id: str
    tenant_id: str
    api_key: str | None
    blueprint: str
    model: str
    created_at: int
    fence: int
    options: SessionFacts
    ended: ExitReason | None

    @property
    def state(self) -> State: ...

    def prompt(self, text: str) -> Accepted:
        """Accept a prompt. `PromptQueueFull`, `SessionDead`, `GuardrailRefused`, `Draining`."""
        ...

    def approve(self, approval_id: str, reason: str | None = None) -> str:
        """Return `approved`. `UnknownReference`, `SessionDead`."""
        ...

    def reject(self, approval_id: str, reason: str | None = None) -> str:
        """Return `rejected`. `UnknownReference`, `SessionDead`."""
        ...

    def respond(self, ref: str, response: Any) -> str:
        """Return `answered`. `UnknownReference`, `SessionDead`."""
        ...

    def abort(self, reason: str | None = None, *, kill_tools: bool = False) -> None:
        """End the turn under way, if there is one."""
        ...

    def steer(self, text: str) -> None:
        """Add a text to the turn. `SteeringQueueFull`, `GuardrailRefused`, `SessionDead`."""
        ...

    def switch_model(self, model: str) -> None:
        """Answer with another model from the next call on. `ModelRefused`, `SessionDead`."""
        ...

    def attach_tool(self, tool: CallbackTool) -> None:
        """Attach a callback tool. `ToolRefused`, `SessionDead`."""
        ...

    def detach_tool(self, name: str) -> None:
        """Detach a callback tool. `UnknownTool`, `SessionDead`."""
        ...

    def info(self) -> dict[str, Any]:
        """Return the body of `GET /v1/sessions/{id}`."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return the body of `GET .../stats`."""
        ...

    def status(self) -> dict[str, Any]:
        """Return the body of `GET .../status`."""
        ...

    def messages(self, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """Return the body of `GET .../messages`. `InvalidArgument` for a wrong cursor."""
        ...

    def subscribe(
        self,
        *,
        since: str | None = None,
        types: frozenset[str] | None = None,
        from_now: bool = False,
    ) -> EventReader:
        """Open a stream. `InvalidArgument` for a `since` that is neither an id nor an index.

        Without `since` it begins at the `prompt_received` of the latest accepted prompt, even if
        that is still to come; with `from_now` after the newest event. Works after the end, too.
        """
        ...
