"""The scenes of other people's servers: the same dialogue with theirs and with the gateway.

Above: `others` makes rows of the figures. Below: `other_servers` are the programs, `servers` runs
them, `wire` is the client of all. A dialogue opens a session, posts `hello`, reads `word `, and
leaves the session idle. Both servers run, and the client talks to each in turn.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

from bench.load import tables
from bench.scene import Figures
from bench.servers import Server, gateway, serving
from bench.talk import END, create, events, prompt
from bench.wire import Answer, Caller, Listener, request, run

FIRST = b"word "
LAST_CHUNK = b"\r\n0\r\n\r\n"
EITHER = "application/json, text/event-stream"
WARMING = 20


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client sends to be answered, and what ends the answer; `posted` goes out before."""

    asked: bytes
    last: bytes
    posted: bytes | None = None


class Dialogue(Protocol):
    """How one kind of server is talked to."""

    opens_apart: bool
    """Whether a session is opened by a request of its own, not by its first prompt."""

    async def open(self, caller: Caller, number: int) -> Any:
        """Open a session and return how it is named."""
        ...

    def ask(self, session: Any) -> Ask:
        """Return what posts a prompt."""
        ...


class Frontdesk:
    """A session is created; a prompt is posted, and then the stream is opened."""

    opens_apart = True

    async def open(self, caller: Caller, number: int) -> str:
        await caller.call(create(f"session-{number}", "parrot"), expected=201)
        return f"session-{number}"

    def ask(self, session: str) -> Ask:
        return Ask(events(session), END, posted=prompt(session, "hello"))


class ADK:
    """A session is created; a prompt is answered as a stream."""

    opens_apart = True

    async def open(self, caller: Caller, number: int) -> str:
        path = "/apps/parrot/users/user/sessions"
        body = {"sessionId": f"session-{number}"}
        answer = await caller.call(request("POST", path, content=body))
        return str(answer.json()["id"])

    def ask(self, session: str) -> Ask:
        message = {"role": "user", "parts": [{"text": "hello"}]}
        facts = {"appName": "parrot", "userId": "user", "sessionId": session}
        body = {**facts, "newMessage": message, "streaming": True}
        return Ask(request("POST", "/run_sse", content=body), LAST_CHUNK)


class MCP:
    """A session is initialized; a tool is called, and its result is a stream."""

    opens_apart = True
    version = "2025-06-18"

    async def open(self, caller: Caller, number: int) -> dict[str, str]:
        client = {"name": "bench", "version": str(number)}
        params = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": client}
        answer: Answer = await caller.call(_mcp({}, "initialize", params, number=0))
        session = {
            "mcp-session-id": answer.header("mcp-session-id"),
            "mcp-protocol-version": self.version,
        }
        await caller.call(_mcp(session, "notifications/initialized"), expected=202)
        return session

    def ask(self, session: dict[str, str]) -> Ask:
        params = {"name": "parrot", "arguments": {"text": "hello"}}
        return Ask(_mcp(session, "tools/call", params, number=1), LAST_CHUNK)


def _mcp(
    session: dict[str, str], method: str, params: object = None, *, number: int | None = None
) -> bytes:
    body: dict[str, object] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        body["params"] = params
    if number is not None:
        body["id"] = number
    return request("POST", "/mcp", headers={**session, "accept": EITHER}, content=body)


class A2A:
    """A task begins with its first message, which is a prompt, and waits for the next one."""

    opens_apart = False

    async def open(self, *_: object) -> None:
        """Do nothing yet."""

    def ask(self, _: object) -> Ask:
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage"}
        content = {**body, "params": {"message": message}}
        asked = request("POST", "/", headers={"a2a-version": "1.0"}, content=content)
        return Ask(asked, LAST_CHUNK)


DIALOGUES: dict[str, type[Dialogue]] = {"adk": ADK, "mcp_sdk": MCP, "a2a_sdk": A2A}


def dialogues(*, other: str, python: str, prompts: int, sessions: int) -> Figures:
    """Talk to the gateway and to another server in turn; then let each hold idle sessions."""
    with (
        gateway(tables("parrot")) as ours,
        serving(f"bench.other_servers.{other}", python=python) as theirs,
    ):
        return run(_dialogues(ours, theirs, DIALOGUES[other](), prompts, sessions))


async def _dialogues(
    ours: Server, theirs: Server, dialogue: Dialogue, prompts: int, sessions: int
) -> Figures:
    sides: dict[str, tuple[Server, Dialogue]] = {
        "ours": (ours, Frontdesk()),
        "theirs": (theirs, dialogue),
    }
    callers = {name: await Caller.connect(server.port) for name, (server, _) in sides.items()}
    taken: dict[str, list[int]] = {}
    for number in range(prompts + WARMING):
        for name, (server, each) in sides.items():
            opened, first = await _talk(server, callers[name], each, number)
            if number >= WARMING:
                taken.setdefault(f"{name}_open_ns", []).append(opened)
                taken.setdefault(f"{name}_first_ns", []).append(first)
    figures: Figures = {name: statistics.median(each) for name, each in taken.items()}
    for name, (server, each) in sides.items():
        before = server.resident_bytes
        for number in range(sessions):
            await _talk(server, callers[name], each, prompts + WARMING + number)
        figures[f"{name}_bytes"] = (server.resident_bytes - before) / sessions
    if not dialogue.opens_apart:
        figures["ours_open_ns"] = figures["theirs_open_ns"] = None
    return figures


async def _talk(server: Server, caller: Caller, dialogue: Dialogue, number: int) -> tuple[int, int]:
    """Open a session, prompt it, read the answer whole; return the times of opening and of it."""
    start = perf_counter_ns()
    session = await dialogue.open(caller, number)
    opened = perf_counter_ns() - start
    ask = dialogue.ask(session)
    start = perf_counter_ns()
    if ask.posted is not None:
        await caller.call(ask.posted, expected=202)
    listener = await Listener.connect(server.port, ask.asked, marker=FIRST)
    first = await listener.until() - start
    listener.follow(ask.last)
    await listener.until()
    listener.close()
    return opened, first
