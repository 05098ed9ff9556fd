"""What an ACP agent may ask: permissions, its user, files and terminals, and nothing else.

Files and terminals are answered inside the session's working directory and where the operator
allows them; otherwise the agent read at the start that there are none, and its request is refused.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

from acp.exceptions import RequestError
from acp.meta import CLIENT_METHODS
from acp.schema import (
    AllowedOutcome,
    ClientCapabilities,
    CreateTerminalRequest,
    CreateTerminalResponse,
    DeniedOutcome,
    ElicitationCapabilities,
    ElicitationFormCapabilities,
    ElicitationUrlCapabilities,
    FileSystemCapabilities,
    KillTerminalRequest,
    ReadTextFileRequest,
    ReadTextFileResponse,
    ReleaseTerminalRequest,
    RequestPermissionResponse,
    SessionNotification,
    TerminalExitStatus,
    TerminalOutputRequest,
    TerminalOutputResponse,
    WaitForTerminalExitRequest,
    WaitForTerminalExitResponse,
    WriteTextFileRequest,
)
from pydantic import BaseModel, ValidationError

from frontdesk.agents.acp.agent_answers import ElicitationAsked, PermissionAsked
from frontdesk.agents.acp.connection import first_problem
from frontdesk.agents.acp.elicitations import answer_to, question_of
from frontdesk.agents.acp.parsing import LeftOut
from frontdesk.agents.acp.terminals import NoTerminal, Terminals, TooManyTerminals
from frontdesk.agents.acp.updates import UpdateTranslator
from frontdesk.agents.acp.workdir import FileTooLarge, OutsideWorkDir, WorkDir
from frontdesk.agents.errors import QuestionExpired
from frontdesk.keeper.errors import KeeperLost, SpawnFailed

FileAccess = Literal["none", "read", "write"]

MAX_CONCURRENT_REQUESTS = 64
"""Requests of one agent that are being answered at a time."""

_Route = tuple[type[BaseModel], Callable[[Any], Awaitable[Any]]]


class ClientMethods:
    """Answer one agent's requests. `translator` is of its turn under way, None between turns.

    `session_id` is the one that the agent gave its session; requests for any other are refused.
    `on_update` is called with each `session/update` of it that is known, and its `_meta`.
    """

    def __init__(
        self,
        *,
        workdir: WorkDir,
        files: FileAccess,
        terminals: Terminals | None = None,
        on_update: Callable[[Any, Any], object] = lambda *_: None,
    ) -> None:
        self.session_id: str | None = None
        self.translator: UpdateTranslator | None = None
        self._workdir, self._terminals = workdir, terminals
        self._files, self._on_update = files, on_update
        self._under_way = 0
        routes: dict[str, _Route] = {
            "session_request_permission": (PermissionAsked, self._permission),
            "elicitation_create": (ElicitationAsked, self._elicit),
        }
        if files != "none":
            routes["fs_read_text_file"] = (ReadTextFileRequest, self._read_file)
        if files == "write":
            routes["fs_write_text_file"] = (WriteTextFileRequest, self._write_file)
        if terminals is not None:
            routes |= TerminalMethods(terminals, workdir=workdir).routes
        self._routes = {CLIENT_METHODS[name]: route for name, route in routes.items()}

    @property
    def capabilities(self) -> ClientCapabilities:
        """Return what agents may ask for, as they read it at the start."""
        return ClientCapabilities(
            fs=FileSystemCapabilities(
                read_text_file=self._files != "none", write_text_file=self._files == "write"
            ),
            terminal=self._terminals is not None,
            elicitation=ElicitationCapabilities(
                form=ElicitationFormCapabilities(), url=ElicitationUrlCapabilities()
            ),
        )

    async def answer(self, method: str, params: Any, is_notification: bool) -> Any:
        """Answer a request with a model of the SDK's; raises its `RequestError` only."""
        if is_notification:
            self._on_notification(method, params)
            return None
        if method not in self._routes:
            raise RequestError.method_not_found(method)
        if self._under_way >= MAX_CONCURRENT_REQUESTS:
            raise RequestError.internal_error({"details": "too many requests at once"})
        self._under_way += 1
        try:
            return await self._dispatch(method, params)
        finally:
            self._under_way -= 1

    def on_left_out(self, _: LeftOut) -> None:
        """Handle a notification that was too large to be read."""
        if self.translator is not None:
            self.translator.on_left_out()

    # -- within --------------------------------------------------------------------------------

    def _on_notification(self, method: str, params: Any) -> None:
        if method != CLIENT_METHODS["session_update"]:
            return
        try:
            notice = SessionNotification.model_validate(params)
        except ValidationError:
            # An update of a kind that the SDK does not know; some say something all the same.
            if isinstance(params, dict) and params.get("sessionId") == self.session_id:
                self._on_update(params.get("update"), None)
            return
        if notice.session_id == self.session_id:
            self._on_update(notice.update, notice.field_meta)

    async def _dispatch(self, method: str, params: Any) -> Any:
        model, act = self._routes[method]
        try:
            request: Any = model.model_validate(params)
        except ValidationError as error:
            raise _invalid(first_problem(error)) from None
        if request.session_id != self.session_id:
            raise _invalid("there is no such session")
        try:
            return await act(request)
        except OutsideWorkDir:
            raise _invalid("the path is not inside the session's working directory") from None
        except FileNotFoundError:
            raise RequestError.resource_not_found(getattr(request, "path", None)) from None
        except OSError as error:
            raise RequestError.internal_error({"details": error.strerror}) from None

    # -- permissions ---------------------------------------------------------------------------

    async def _permission(self, request: PermissionAsked) -> RequestPermissionResponse:
        chosen = None
        if self.translator is not None:
            answer = await self.translator.approval(request.tool_call, request.offered)
            chosen = answer.option_id
        else:
            self._on_update(request.tool_call, None)
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        outcome = AllowedOutcome(outcome="selected", option_id=chosen)
        return RequestPermissionResponse(outcome=outcome)

    async def _elicit(self, request: ElicitationAsked) -> dict[str, Any]:
        if self.translator is None:
            return {"action": "cancel"}
        try:
            response = await self.translator.ask(question_of(request))
        except QuestionExpired:
            return {"action": "cancel"}
        return answer_to(request, response)

    # -- files ---------------------------------------------------------------------------------

    async def _read_file(self, request: ReadTextFileRequest) -> ReadTextFileResponse:
        try:
            read = partial(
                self._workdir.read_text, request.path, line=request.line, limit=request.limit
            )
            content = await self._workdir.in_thread(read)
        except FileTooLarge:
            raise _invalid("the file is too large") from None
        except UnicodeDecodeError:
            raise _invalid("the file is not UTF-8 text") from None
        return ReadTextFileResponse(content=content)

    async def _write_file(self, request: WriteTextFileRequest) -> dict[str, Any]:
        try:
            write = partial(self._workdir.write_text, request.path, request.content)
            await self._workdir.in_thread(write)
        except FileTooLarge:
            raise _invalid("the text is too large") from None
        return {}


class TerminalMethods:
    """Answer the requests about terminals."""

    def __init__(self, terminals: Terminals, *, workdir: WorkDir) -> None:
        self._terminals, self._workdir = terminals, workdir

    @property
    def routes(self) -> dict[str, _Route]:
        """Return what is answered, by the SDK's names."""
        return {
            "terminal_create": (CreateTerminalRequest, self._create),
            "terminal_output": (TerminalOutputRequest, _refusing_unknown(self._output)),
            "terminal_wait_for_exit": (WaitForTerminalExitRequest, _refusing_unknown(self._wait)),
            "terminal_kill": (KillTerminalRequest, _refusing_unknown(self._kill)),
            "terminal_release": (ReleaseTerminalRequest, _refusing_unknown(self._release)),
        }

    async def _create(self, request: CreateTerminalRequest) -> CreateTerminalResponse:
        cwd = self._workdir.path
        if request.cwd is not None:
            find = partial(self._workdir.directory, request.cwd)
            cwd = await self._workdir.in_thread(find)
        try:
            terminal_id = await self._terminals.create(
                (request.command, *(request.args or ())),
                cwd=cwd,
                env={each.name: each.value for each in request.env or ()},
                limit=request.output_byte_limit,
            )
        except TooManyTerminals:
            raise _invalid("the session has too many terminals") from None
        except (SpawnFailed, KeeperLost):
            raise RequestError.internal_error({"details": "it could not be started"}) from None
        return CreateTerminalResponse(terminal_id=terminal_id)

    async def _output(self, request: TerminalOutputRequest) -> TerminalOutputResponse:
        terminal = self._terminals[request.terminal_id]
        process = terminal.process
        return TerminalOutputResponse(
            output=terminal.output,
            truncated=terminal.truncated,
            exit_status=_status(process.returncode) if process.exited else None,
        )

    async def _wait(self, request: WaitForTerminalExitRequest) -> WaitForTerminalExitResponse:
        status = _status(await self._terminals[request.terminal_id].wait())
        return WaitForTerminalExitResponse(exit_code=status.exit_code, signal=status.signal)

    async def _kill(self, request: KillTerminalRequest) -> dict[str, Any]:
        terminal = self._terminals[request.terminal_id]
        terminal.process.kill()
        await terminal.process.wait_gone()
        return {}

    async def _release(self, request: ReleaseTerminalRequest) -> dict[str, Any]:
        await self._terminals.release(request.terminal_id)
        return {}


def _refusing_unknown(act: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def acting(request: Any) -> Any:
        try:
            return await act(request)
        except NoTerminal:
            raise _invalid("there is no such terminal") from None

    return acting


def _status(returncode: int | None) -> TerminalExitStatus:
    if returncode is None or returncode >= 0:
        return TerminalExitStatus(exit_code=returncode, signal=None)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"SIG{-returncode}"
    return TerminalExitStatus(exit_code=None, signal=name)


def _invalid(details: str) -> RequestError:
    return RequestError.invalid_params({"details": details})
