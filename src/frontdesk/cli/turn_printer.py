"""What a turn's events look like: text on standard output, thoughts and tools on standard error.

Between `session_prompt.py` and `output.py`. A terminal gets no control character of an agent's; a
pipe gets the text as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from frontdesk.cli.exit_codes import printable_text
from frontdesk.cli.output import emit, on_terminal, print_json

if TYPE_CHECKING:
    from frontdesk.client import ApprovalRequired, AskUser, Event, Gap

MAX_SUMMARY_CHARACTERS = 200


def as_text(value: Any) -> str:
    """Return arguments or a result in one short line."""
    import msgspec  # late: not every command needs it

    text = "()" if value is None else f"({msgspec.json.encode(value).decode()})"
    cut = len(text) > MAX_SUMMARY_CHARACTERS
    return f"{text[:MAX_SUMMARY_CHARACTERS]}..." if cut else text


def event_name(event: Event | Gap) -> str:
    """Return the name of an event on the wire; what is missing is a `gap`."""
    return getattr(event, "name", "gap")


def event_document(event: Event | Gap, **more: Any) -> dict[str, Any]:
    """Return an event as a line of JSON has it."""
    return {**more, "event": event_name(event), "data": event}


class TurnPrinter:
    """Print the events of one turn as they come."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._in_text = self._in_thought = False

    def print(self, event: Event | Gap) -> None:
        """Print an event; with JSON as a line."""
        from frontdesk import client as known

        if self._as_json:
            print_json(event_document(event), stream=True)
            return
        match event:
            case known.MessageDelta():
                self._end_thought()
                emit(printable_text(event.delta) if on_terminal() else event.delta)
                self._in_text = not event.delta.endswith("\n")
            case known.MessageStart():
                self._end_text()
            case known.ThinkingStart():
                self._aside("thinking: ", end="")
                self._in_thought = True
            case known.ThinkingDelta():
                self._write(event.delta)
            case known.ToolExecutionStart():
                self._aside(f"tool {event.tool_name}{as_text(event.args)}")
            case known.ToolExecutionEnd():
                self._aside(f"tool {event.tool_name}: {event.status}, {event.duration_ms} ms")
            case known.ApprovalResolved():
                self._aside(f"approval {event.approval_id}: {event.status}")
            case known.Error() | known.AgentRestarted() | known.SessionEnd():
                self._aside(f"{event.name.replace('_', ' ')}: {event.reason}")
            case known.Gap():
                self._aside("some events are missing: they are held no more")
            case known.ModelSwitched():
                self._aside(f"the model is {event.to_model}")
            case _:
                pass

    def end(self) -> None:
        """End the line that is under way."""
        self._end_thought()
        self._end_text()

    def describe(self, asked: ApprovalRequired | AskUser) -> None:
        """Show what an answer is asked for, on standard error."""
        from frontdesk.client import AskUser

        if isinstance(asked, AskUser):
            self._aside(f"the agent asks: {asked.question}")
            return
        hint = f": {asked.hint}" if asked.hint else ""
        title = asked.details.title if asked.details and asked.details.title else asked.tool_name
        self._aside(f"approval {asked.approval_id}: {title}{as_text(asked.args)}{hint}")
        for content in asked.details.content if asked.details else ():
            self._aside(f"  {as_text(content)}")

    def _aside(self, line: str, *, end: str = "\n") -> None:
        self._end_thought()
        if self._in_text and on_terminal():
            self._end_text()
        self._write(line + end)

    def _write(self, text: str) -> None:
        sys.stderr.write(printable_text(text) if sys.stderr.isatty() else text)
        sys.stderr.flush()

    def _end_text(self) -> None:
        if self._in_text and not self._as_json:
            emit("\n")
        self._in_text = False

    def _end_thought(self) -> None:
        if self._in_thought:
            self._in_thought = False
            self._write("\n")
