"""The model of the adapters' tests: a server on loopback that a test scripts, in any dialect.

A framework's agents find it by the variables in `VARIABLES`, at one address for the whole run: they
are module-level objects, in the tests' process and in the agents'. What the model says is one
neutral script for all frameworks; a `Dialect` is how a provider puts it.
"""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import Protocol

_LISTENING = socket.create_server(("127.0.0.1", 0))

ORIGIN = f"http://127.0.0.1:{_LISTENING.getsockname()[1]}"

VARIABLES = {
    "MODEL_SERVER_OF_THE_TESTS": ORIGIN,
    "OPENAI_BASE_URL": f"{ORIGIN}/v1",
    "OPENAI_API_KEY": "sk-of-the-tests",
    "GOOGLE_GEMINI_BASE_URL": ORIGIN,
    "GOOGLE_API_KEY": "key-of-the-tests",
}
"""What agents find in their environment, in the tests' process and in their own."""


@dataclass(frozen=True)
class Call:
    """The model calls a tool."""

    tool: str
    args: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Thought:
    """The model thinks."""

    text: str


@dataclass(frozen=True)
class Final:
    """The model gives the structured answer that it is asked for."""

    value: dict


class Refuse(Exception):
    """The provider answers with an error that no client tries again."""


@dataclass
class Asked:
    """One request to the model, whatever it looked like. `left` is set where its client hung up.

    `results` are what tools returned, `said` what the model itself said before, in order. `final`
    is the tool by which a structured answer is given; None where it is given as text.
    """

    model: str
    users: list = field(default_factory=list)
    said: list = field(default_factory=list)
    results: list = field(default_factory=list)
    system: str = ""
    tools: list = field(default_factory=list)
    final: str | None = None
    stream: bool = True
    usage: tuple = (0, 0)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    body: dict = field(default_factory=dict)
    """The request as its provider has it."""

    @property
    def prompt(self):
        """Return what the user said last."""
        return self.users[-1]


class Dialect(Protocol):
    """How a provider is asked and answers."""

    def asked(self, path, body):
        """Return the request, from its path and its JSON."""

    def answer(self, asked, pieces):
        """Yield the bytes of a body that says these pieces: the first is the whole of the rest.

        An async generator. `pieces` is an async iterator of text, `Thought`, `Call` and `Final`.
        """

    def error(self):
        """Return status line and body of a refusal."""


class ModelServer:
    """Answer as `script` says, an async generator function of `Asked`; use it with `async with`.

    `asked` is what came, oldest first. Each answer's tokens are other numbers: `served` is their
    sum so far.
    """

    def __init__(self, dialect, script):
        self._dialect, self.script = dialect, script
        self.asked = []

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._serve, sock=_LISTENING.dup())
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()

    async def hang_up(self):
        """End every connection, those too on which nothing came yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def served(self):
        """Return the prompt's and the completion's tokens of all answers so far."""
        return tuple(map(sum, zip(*(each.usage for each in self.asked), strict=True)))

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, reader, writer):
        line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(header.lower().split(": ", 1) for header in headers if header)
        body = json.loads(await reader.readexactly(int(fields.get("content-length", 0))) or b"{}")
        asked = self._dialect.asked(line.split()[1], body)
        asked.body = body
        self.asked.append(asked)
        asked.usage = (10 + len(self.asked), 5 + 2 * len(self.asked))
        pieces = self.script(asked)
        try:
            first = await anext(pieces, "")
        except Refuse:
            writer.write(plain(*self._dialect.error()))
            return await writer.drain()
        # Every answer closes its connection: an agent may live longer than the loop of one test.
        kind = "text/event-stream" if asked.stream else "application/json"
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode()
        )
        answer = self._dialect.answer(asked, _behind(first, pieces))
        watching = asyncio.create_task(_watch(reader, asked.left))
        try:
            await _until_left(_send(writer, answer), asked.left)
        finally:
            watching.cancel()
            await asyncio.wait({watching})


def plain(status, body):
    """Return an answer that is not streamed."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


async def _behind(first, pieces):
    yield first
    async for piece in pieces:
        yield piece


async def _send(writer, body):
    async for piece in body:
        writer.write(piece)
        await writer.drain()


async def _watch(reader, left):
    """Notice a client that hangs up."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(1024):
            pass
    left.set()


async def _until_left(sending, left):
    sending, leaving = asyncio.ensure_future(sending), asyncio.ensure_future(left.wait())
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
    finally:
        for each in (sending, leaving):
            each.cancel()
        await asyncio.wait({sending, leaving})
