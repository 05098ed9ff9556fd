"""A small OpenAI-compatible server on loopback: chat completions, streamed or not.

Enough for a client library to believe it. `answers` says what it streams; `requests` is what came.
"""

import asyncio
import contextlib
import json


class OpenAIServer:
    """Serve scripted answers; use it with `async with`.

    `script` is an async generator function of the request's body that yields words, dicts
    (`delta`s of the protocol), or raises.
    """

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.left = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        line, *headers = request.decode().split("\r\n")
        fields = dict(header.lower().split(": ", 1) for header in headers if header)
        body = json.loads(await reader.readexactly(int(fields.get("content-length", 0))))
        self.requests.append({"line": line, "headers": fields, "body": body})
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        watching = asyncio.create_task(self._watch(reader))
        try:
            await self._stream(writer, body)
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        return False

    async def _watch(self, reader):
        """Notice a client that leaves in the middle."""
        if not await reader.read(1):
            self.left.set()

    async def _stream(self, writer, body):
        leaving = asyncio.ensure_future(self.left.wait())
        words = self.script(body)
        try:
            while True:
                word = asyncio.ensure_future(anext(words, None))
                await asyncio.wait({word, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not word.done():
                    word.cancel()
                    await asyncio.wait({word})
                    return
                if word.result() is None:
                    break
                self._say(writer, word.result())
                await writer.drain()
            self._finish(writer)
            await writer.drain()
        finally:
            leaving.cancel()

    def _say(self, writer, piece):
        self._send(writer, chunk(piece))

    def _finish(self, writer):
        self._send(writer, chunk({}, finish_reason="stop", usage=USAGE))
        writer.write(b"data: [DONE]\n\n")

    def _send(self, writer, data):
        writer.write(b"data: " + json.dumps(data).encode() + b"\n\n")


class ResponsesServer(OpenAIServer):
    """The same with the Responses API; of what a script yields, words and calls of tools."""

    def _say(self, writer, piece):
        if isinstance(piece, str):
            self._send(writer, {"type": "response.output_text.delta", "delta": piece})
        else:
            function = piece["tool_calls"][0]["function"]
            self._output = [{"type": "function_call", "call_id": "call_1", **function}]

    def _finish(self, writer):
        response = {
            "id": f"resp_{len(self.requests)}",
            "status": "completed",
            "usage": {
                "input_tokens": 11,
                "output_tokens": 7,
                "input_tokens_details": {"cached_tokens": 4},
            },
            "output": self._output,
        }
        self._output = []
        self._send(writer, {"type": "response.completed", "response": response})

    _output = ()


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def chunk(piece, *, finish_reason=None, usage=None):
    """Return one chunk of a streamed chat completion."""
    delta = {"role": "assistant", "content": piece} if isinstance(piece, str) else piece
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **({"usage": usage} if usage else {}),
    }


def tool_call(name, arguments):
    """Return the delta in which a model calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
