"""One call of a tool between its two events: the one place that times it and says how it ended.

Operator's tools, callback tools and the calls that an ACP agent reports all end here, so that a
client reads the same statuses whoever ran the tool.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any

from frontdesk.agents.errors import ToolFailed, TurnOver
from frontdesk.agents.events import Event, ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.records import ToolStatus


class ToolRun:
    """A call of a tool: `with` emits its start, and its end however the block is left.

    Set `result` in the block; set `status` where it is to say something else than the block's own
    end does. A failure shows its type to clients, `ToolFailed` its words. The end of a turn that is
    over already is discarded.

    Examples:
        >>> events, times = [], iter((1.0, 1.5))
        >>> with ToolRun(events.append, "add", {"a": 1}, now=times.__next__) as run:
        ...     run.result = 2
        >>> events[1].status, events[1].result, events[1].duration_ms
        ('ok', 2, 500)
    """

    __slots__ = ("_args", "_began_s", "_emit", "_now", "call_id", "name", "result", "status")
    call_id: str
    name: str

    def __init__(
        self,
        emit: Callable[[Event], None],
        name: str,
        args: Any,
        *,
        now: Callable[[], float],
        call_id: str | None = None,
    ) -> None:
        self._emit, self._now, self._args = emit, now, args
        self.name, self.call_id = name, call_id or f"call_{secrets.token_hex(8)}"
        self.status: ToolStatus | None = None
        self.result: Any = None

    def begin(self) -> None:
        """Emit the start. For a call that is no block; otherwise use `with`."""
        self._began_s = self._now()
        self._emit(ToolExecutionStart(self.call_id, self.name, self._args))
        self._args = None

    def end(self, status: ToolStatus, result: Any = None) -> None:
        """Emit the end, with how long it took."""
        duration_ms = round((self._now() - self._began_s) * 1000)
        with contextlib.suppress(TurnOver):
            self._emit(ToolExecutionEnd(self.call_id, self.name, status, result, duration_ms))

    def __enter__(self) -> ToolRun:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.end(self.status or "ok", self.result)
        elif isinstance(error, ToolFailed):
            self.end(self.status or "error", error.problem)
        elif isinstance(error, Exception):
            self.end(self.status or "error", type(error).__name__)
        else:
            self.end(self.status or "cancelled")
