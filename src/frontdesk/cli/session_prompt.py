"""`frontdesk sessions prompt`: ask an agent, and read what it says as it says it.

Ctrl-C aborts the turn, a second one leaves. What the agent asks is asked at the terminal; where
there is none, the command ends with what waits.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from frontdesk.background import start_without_signals
from frontdesk.cli.exit_codes import CommandFailed, ExitCode
from frontdesk.cli.options import AsJson
from frontdesk.cli.output import inform, somebody_is_there
from frontdesk.cli.remote import KeyPath, Name, SessionName, Url, asking
from frontdesk.cli.turn_printer import TurnPrinter, as_text
from frontdesk.errors import FrontdeskError, InvalidArgument

if TYPE_CHECKING:
    from frontdesk.client import (
        AgentAbort,
        ApprovalAnswer,
        ApprovalRequired,
        AskUser,
        ClientSession,
        ClientTurn,
    )

MAX_INPUT_BYTES = 16 * 1024 * 1024
YES, NO = ("y", "yes"), ("n", "no")


def prompt(
    session: Name,
    text: Annotated[str, typer.Argument(help="What to say; - reads it from standard input.")],
    url: Url = None,
    key_file: KeyPath = None,
    as_json: AsJson = False,
) -> None:
    """Send a prompt, and print the text of its turn as it comes.

    Thoughts and tools go to standard error. Approvals and questions are asked at the terminal;
    where there is none, the first of them ends the command with exit code 1 and its id, and the
    turn goes on. Ctrl-C aborts the turn, a second one leaves. A turn that is not finished is exit
    code 1. With --json, a line an event.
    """
    name = SessionName.parse(session)
    if name.tenant_id is not None:
        expected = "an id: what is said in a session is its tenant's, not an operator's"
        raise InvalidArgument("the session", expected=expected, got=repr(session))
    said = text_from_stdin() if text == "-" else text
    with asking(url, key_file) as client:
        asked = client.session(name.session_id)
        dialogue = PromptedTurn(asked, TurnPrinter(as_json=as_json))
        dialogue.run(said)


class PromptedTurn:
    """One turn at the command line, from its prompt to its end."""

    def __init__(self, session: ClientSession, printer: TurnPrinter) -> None:
        self._session, self._printer = session, printer
        self._turn: ClientTurn | None = None
        self._signals: socket.socket
        self._answering = self._interrupted = self._begun = False

    def run(self, text: str) -> None:
        """Send the prompt and print its turn; returns where it ended well."""
        with self._interruptions():
            self._turn = turn = self._session.prompt(
                text, on_approval=self._on_approval, on_question=self._on_question
            )
            if turn.queued:
                inform("the prompt waits until another turn has ended")
            try:
                for event in turn:
                    self._begun = True
                    self._printer.print(event)
            finally:
                self._printer.end()
        if (why := aborted(turn)) is not None:
            self._fail(why)

    def _fail(self, why: AgentAbort) -> None:
        if self._interrupted:
            raise typer.Exit(ExitCode.INTERRUPTED)
        message = (
            f"the turn ended before its agent was done: {why.reason}: "
            f"`frontdesk sessions show {self._session.session_id}` says how the session is doing"
        )
        raise CommandFailed("turn_aborted", message, exit_code=ExitCode.WRONG)

    # -- what the agent asks ---------------------------------------------------------------------

    def _on_approval(self, asked: ApprovalRequired) -> ApprovalAnswer:
        if not somebody_is_there():
            what = f"{asked.tool_name}{as_text(asked.args)}"
            session = self._session.session_id
            raise CommandFailed(
                "approval_required",
                f"approval {asked.approval_id} waits: {what}: answer with "
                f"`frontdesk sessions approve {session} {asked.approval_id}` or `reject`",
                exit_code=ExitCode.WRONG,
            )
        self._printer.describe(asked)
        while (line := self._ask("Let it run? [y/n] ")) is not None:
            if line.lower() in (*YES, *NO):
                return line.lower() in YES
        return None

    def _on_question(self, asked: AskUser) -> str | None:
        if not somebody_is_there():
            raise CommandFailed(
                "question_asked",
                f"question {asked.ref} waits: {asked.question}: answer it in the dashboard, or "
                f"with POST /v1/sessions/{self._session.session_id}/respond",
                exit_code=ExitCode.WRONG,
            )
        self._printer.describe(asked)
        return self._ask("> ")

    def _ask(self, question: str) -> str | None:
        """Return a line of somebody's; None where Ctrl-C aborts the turn in its place."""
        if self._interrupted:
            return None
        self._answering = True
        try:
            print(question, end="", file=sys.stderr, flush=True)  # noqa: T201 - asks at a terminal
            # Not at once `readline`: a signal just before it blocks would wait for the line.
            while sys.stdin not in select.select([sys.stdin, self._signals], [], [])[0]:
                self._signals.recv(64)
            line = sys.stdin.readline()
        except _AbortTurn:
            self._abort()
            return None
        finally:
            self._answering = False
        if not line:
            raise CommandFailed(
                "unanswered",
                f"nobody answers: `frontdesk sessions show {self._session.session_id}` lists what "
                "waits",
                exit_code=ExitCode.WRONG,
            )
        return line.strip()

    # -- Ctrl-C ----------------------------------------------------------------------------------

    @contextmanager
    def _interruptions(self) -> Iterator[None]:
        self._signals, waking = socket.socketpair()
        waking.setblocking(False)
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, before)
            self._signals.close()
            waking.close()

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._interrupted or self._turn is None:
            raise KeyboardInterrupt
        if self._turn.queued and not self._begun:
            # What is under way is another prompt's turn, and a prompt cannot be taken back.
            inform("left: the prompt stays in the session's queue")
            raise KeyboardInterrupt
        self._interrupted = True
        if self._answering:
            raise _AbortTurn
        # The stream is being read in this thread: the turn is aborted from another.
        start_without_signals(threading.Thread(target=self._abort, daemon=True))

    def _abort(self) -> None:
        self._printer.end()
        inform("aborting the turn; Ctrl-C again leaves")
        assert self._turn is not None
        try:
            self._turn.abort(reason="interrupted")
        except FrontdeskError as error:
            inform(f"frontdesk: {error}")


class _AbortTurn(BaseException):
    """Ctrl-C, while somebody was asked."""


def aborted(turn: ClientTurn) -> AgentAbort | None:
    """Return how a turn was aborted, None where it ended well."""
    from frontdesk.client import AgentAbort

    return turn.end if isinstance(turn.end, AgentAbort) else None


def text_from_stdin() -> str:
    """Return what standard input has; `InvalidArgument` where it is no text, or too long."""
    read = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    try:
        text = read.decode()
    except UnicodeDecodeError:
        raise InvalidArgument("standard input", expected="UTF-8", got="other bytes") from None
    if len(read) > MAX_INPUT_BYTES or not text.strip():
        got = f"{len(read)} bytes" if text.strip() else "nothing"
        raise InvalidArgument("standard input", expected=f"1 to {MAX_INPUT_BYTES} bytes", got=got)
    return text
