"""One turn that runs in another process, as the gateway sees it.

It carries what the process says to the turn's port, and what changes at the port to the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, assert_never

from frontdesk.agents.errors import MessageInvalid, TurnOver
from frontdesk.agents.process.messages import (
    Answered,
    ApprovalAsked,
    Call,
    CallDropped,
    Emitted,
    Finished,
    Given,
    MemoryGiven,
    ModelChanged,
    QuestionAsked,
    RemoteError,
    RunTurn,
    Steered,
    SteeringTaken,
    SuspensionGiven,
    ToolCalled,
    ToolsChanged,
    ToWorker,
    Used,
    event_of,
    remote,
)
from frontdesk.agents.turn import TurnPort

TurnMessage = Emitted | Used | SteeringTaken | Given | Call | CallDropped | Finished

MAX_CALLS = 256
"""Calls of one turn that may wait for answers at a time."""


class RemoteTurn:
    """Join a turn's port to the process that runs it. Listens to the port (`TurnListener`).

    `finished` is resolved with how the turn ended in the process, None where it went well;
    or fails where the turn did on this side, for what the process asked of it.
    """

    def __init__(self, port: TurnPort, *, number: int, send: Callable[[ToWorker], None]) -> None:
        self.number = number
        self.finished: asyncio.Future[RemoteError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._port, self._send = port, send
        self._calls: dict[int, asyncio.Task[None]] = {}
        # Of the steering texts that wait, the first so many are known to the process.
        self._steering_sent = 0

    def begin(self) -> RunTurn:
        """Return the message that begins the turn, and listen for what changes after it."""
        waiting = self._port.waiting_steering()
        self._steering_sent = len(waiting)
        self._port.listen(self)
        return RunTurn(self.number, self._port.context, tuple(waiting))

    def close(self) -> None:
        """Stop listening, and drop the calls that still wait."""
        self._port.listen(None)
        for task in self._calls.values():
            task.cancel()

    # -- what the process says -----------------------------------------------------------------

    def on_message(self, message: TurnMessage) -> None:
        """Carry a message of the process to the port.

        What the port refuses fails the turn, as it would in a task; what comes after the turn's end
        is discarded.
        """
        try:
            match message:
                case Emitted():
                    self._port.emit(event_of(message))
                case Used(usage=used):
                    if used is None:
                        self._port.usage_unknown()
                    else:
                        self._port.usage(used)
                case SteeringTaken():
                    self._steering_sent -= len(self._port.steering(message.count))
                case MemoryGiven(memory=memory):
                    self._port.remember(memory)
                case SuspensionGiven(memory=memory):
                    self._port.suspend(memory)
                case ApprovalAsked() | QuestionAsked() | ToolCalled():
                    self._call(message)
                case CallDropped():
                    if (task := self._calls.get(message.call)) is not None:
                        task.cancel()
                case Finished():
                    if not self.finished.done():
                        self.finished.set_result(message.error)
                case _:
                    assert_never(message)
        except TurnOver:
            pass
        except Exception as error:  # noqa: BLE001 - it is the agent's error, and ends its turn
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the turn with an error of this side."""
        if not self.finished.done():
            self.finished.set_exception(error)
            self.finished.exception()  # read, as nobody may wait for it any more

    def _call(self, call: Call) -> None:
        if len(self._calls) >= MAX_CALLS:
            raise MessageInvalid(f"more than {MAX_CALLS} calls of one turn wait for answers")
        task = self._calls[call.call] = asyncio.create_task(self._answer(call))
        task.add_done_callback(lambda _: self._calls.pop(call.call, None))

    async def _answer(self, call: Call) -> None:
        value: Any
        try:
            match call:
                case ApprovalAsked():
                    answer = await self._port.approval(
                        call.tool,
                        call.args,
                        hint=call.hint,
                        details=call.details,
                        reference=call.reference,
                    )
                    value = [answer.status, answer.reason, answer.option_id]
                case QuestionAsked():
                    value = await self._port.ask(call.question, reference=call.reference)
                case ToolCalled():
                    value = await self._port.call_tool(call.name, call.args, call_id=call.call_id)
            self._send(Answered(self.number, call.call, value))
        except Exception as error:  # noqa: BLE001 - raised again in the process, by whoever waits
            self._send(Answered(self.number, call.call, error=remote(error)))

    # -- what changes at the port: TurnListener ------------------------------------------------

    def steered(self) -> None:
        """Pass on the steering texts that came."""
        waiting = self._port.waiting_steering()
        fresh, self._steering_sent = waiting[self._steering_sent :], len(waiting)
        self._send(Steered(self.number, tuple(fresh)))

    def model_switched(self, model: str) -> None:
        """Pass on the model."""
        self._send(ModelChanged(self.number, model))

    def tools_changed(self) -> None:
        """Pass on the tools."""
        self._send(ToolsChanged(self.number, tuple(self._port.tools)))
