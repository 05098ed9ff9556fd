"""One turn of a remote A2A agent: a message to it, and what becomes of the task that it makes.

A task that wants input asks the user, and goes on with the answer; one that is still open when its
turn ends, however that ends, is cancelled there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from a2a.client import Client
from a2a.types import (
    CancelTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    TaskState,
)

from frontdesk.agents import records
from frontdesk.agents.a2a.a2a_client import RemoteContext, events_of
from frontdesk.agents.a2a.parts import Artifacts, text_of, usage_of
from frontdesk.agents.errors import AgentFailed, QuestionExpired
from frontdesk.agents.events import MessageDelta, MessageStart, ThinkingDelta
from frontdesk.agents.turn import Turn

CANCEL_TIMEOUT_S = 3.0
"""How long a remote agent may take to cancel a task; then its connection is closed."""

MAX_QUESTIONS = 50
"""Questions that one turn may ask."""

MAX_RECALLED_CHARACTERS = 20_000
"""Of what was said before, for a remote agent that was not there."""

_OPEN = (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
_PROBLEMS = {
    TaskState.TASK_STATE_FAILED: "the remote agent's task failed",
    TaskState.TASK_STATE_REJECTED: "the remote agent refused the task",
    TaskState.TASK_STATE_CANCELED: "the remote agent's task was cancelled there",
    TaskState.TASK_STATE_AUTH_REQUIRED: "the remote agent wants another credential",
}
_ENDED = (
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_REJECTED,
    TaskState.TASK_STATE_CANCELED,
)


class TaskTurn:
    """One turn, and the task that it has there."""

    def __init__(self, turn: Turn, client: Client, there: RemoteContext) -> None:
        self._turn, self._client, self._there = turn, client, there
        self._task_id = ""
        self._state = TaskState.TASK_STATE_UNSPECIFIED
        self._status_text = ""
        self._artifacts = Artifacts()
        self._answered = False
        self._usage_known = False

    async def go(self) -> None:
        """Run the turn to its end.

        1. The prompt is sent; what comes of the task is passed on.
        2. A task that wants input asks the user, and gets the answer.
        3. One that failed there fails the turn. One that is still open is cancelled there.
        """
        text = recalled(self._turn.history, self._turn.text, new=not self._there.context_id)
        try:
            for _ in range(MAX_QUESTIONS):
                await self._send(text)
                if self._state != TaskState.TASK_STATE_INPUT_REQUIRED:
                    break
                text = await self._ask(self._status_text)
            self._finish()
        finally:
            if not self._usage_known:
                self._turn.usage_unknown()
            if self._task_id and self._state not in _ENDED:
                await self._cancel()

    async def _send(self, text: str) -> None:
        message = Message(
            message_id=str(uuid4()),
            role=Role.ROLE_USER,
            parts=[Part(text=text)],
            context_id=self._there.context_id,
            task_id=self._task_id,
        )
        self._state, self._status_text = TaskState.TASK_STATE_UNSPECIFIED, ""
        request = SendMessageRequest(message=message)
        async with contextlib.aclosing(events_of(self._client, request)) as events:
            async for event in events:
                self._on_event(event)

    async def _ask(self, question: str) -> str:
        try:
            return str(await self._turn.ask(question or "The agent asks for more."))
        except QuestionExpired:
            return "The user did not answer."

    def _finish(self) -> None:
        """Say what was only in the status, and raise what the task came to."""
        if not self._answered and self._status_text:
            self._emit(self._status_text)
        if self._state in _OPEN or not (self._answered or self._state):
            raise AgentFailed("the remote agent's answer breaks off")
        if self._state == TaskState.TASK_STATE_INPUT_REQUIRED:
            raise AgentFailed(f"the remote agent asked more than {MAX_QUESTIONS} questions")
        problem = _PROBLEMS.get(self._state)
        if problem is not None:
            raise AgentFailed(problem)

    async def _cancel(self) -> None:
        """Cancel the task there. Whether that works makes no difference to the turn here."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self._client.cancel_task(CancelTaskRequest(id=self._task_id))

    # -- events --------------------------------------------------------------------------------

    def _on_event(self, event: Any) -> None:
        match event.WhichOneof("payload"):
            case "message":
                self._there.context_id = event.message.context_id or self._there.context_id
                self._count(event.message.metadata)
                self._emit(text_of(event.message.parts), begins=True)
            case "task":
                self._task_id, self._there.context_id = event.task.id, event.task.context_id
                for artifact in event.task.artifacts:
                    self._on_artifact(artifact, append=False)
                self._on_status(event.task.status)
            case "status_update":
                self._count(event.status_update.metadata)
                self._on_status(event.status_update.status)
            case "artifact_update":
                self._count(event.artifact_update.metadata)
                update = event.artifact_update
                self._on_artifact(update.artifact, append=update.append)

    def _on_status(self, status: Any) -> None:
        """Take in a state. What is said while the task goes on is no answer yet, but a thought."""
        self._state = status.state
        self._status_text = text_of(status.message.parts) or self._status_text
        self._count(status.message.metadata)
        if status.state in _OPEN and status.message.parts:
            self._turn.emit(ThinkingDelta(text_of(status.message.parts)))

    def _on_artifact(self, artifact: Any, *, append: bool) -> None:
        begins = self._artifacts.begins(artifact)
        self._emit(self._artifacts.new_text(artifact, append=append), begins=begins)

    def _emit(self, text: str, *, begins: bool = False) -> None:
        if text:
            if begins or not self._answered:
                self._turn.emit(MessageStart())
            self._answered = True
            self._turn.emit(MessageDelta(text))

    def _count(self, metadata: Any) -> None:
        used = usage_of(metadata)
        if used is not None:
            self._usage_known = True
            self._turn.usage(prompt=used.prompt, completion=used.completion, cached=used.cached)


def recalled(history: Sequence[records.Message], prompt: str, *, new: bool) -> str:
    """Return a prompt, with what was said before where its context is a new one."""
    said = [
        f"{each.role}: {each.content}" for each in history if each.role in ("user", "assistant")
    ]
    if not (new and said):
        return prompt
    before = "\n".join(said)[-MAX_RECALLED_CHARACTERS:]
    return f"What was said before:\n{before}\n\nNow:\n{prompt}"
