"""A model on loopback, in the dialects of the providers: whole enough for their clients.

`ModelServer` serves a script: an async generator function of a `ModelCall` that yields what the
model says: words (str), `Thought`s and `ToolUse`s. What a dialect makes of it is in one class each:
`OpenAIChat`, `OpenAIResponses`, `Anthropic`, `Gemini`.
"""

import asyncio
import contextlib
import json
import re
import threading
from dataclasses import dataclass, field

PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7
"""What every call is said to have used."""


@dataclass(frozen=True)
class Thought:
    text: str


@dataclass(frozen=True)
class ToolUse:
    name: str
    args: dict


@dataclass
class ModelCall:
    """One call: the user's last text, the tools, whether a tool's result is what came last."""

    model: str
    text: str
    tools: list
    after_tool: bool
    streamed: bool = True
    body: dict = field(repr=False, default_factory=dict)
    number: int = 0

    @property
    def tool_id(self):
        """The id of the tool's call in the answer: of no other call."""
        return f"call_{self.number}"


class ModelServer:
    """Serve a script in a thread of its own; use it with `with`.

    `calls` is what was asked of the model, `lost` are requests for anything else.
    """

    def __init__(self, script):
        self.script = script
        self.calls = []
        self.lost = []

    def __enter__(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _run(self, ready):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.split("\r\n")
        fields = dict(each.lower().split(": ", 1) for each in lines if each)
        raw = await reader.readexactly(int(fields.get("content-length", 0)))
        path = line.split()[1]
        dialect = next((each for each in DIALECTS if re.search(each.path, path)), None)
        if dialect is None or not raw:
            self.lost.append(line)
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")
            return
        call = dialect.read(json.loads(raw), path)
        call.number = len(self.calls)
        self.calls.append(call)
        saying = asyncio.create_task(self._say(writer, dialect(call), call))
        leaving = asyncio.create_task(reader.read(1))
        await asyncio.wait({saying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (saying, leaving):
            task.cancel()
        await asyncio.wait({saying, leaving})

    async def _say(self, writer, answer, call):
        kind = b"text/event-stream" if call.streamed else b"application/json"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\nconnection: close\r\n\r\n"
        if not call.streamed:
            pieces = [piece async for piece in self.script(call)]
            writer.write(head + json.dumps(answer.whole(pieces)).encode())
            return
        writer.write(head)
        self._send(writer, answer.begin())
        async for piece in self.script(call):
            self._send(writer, answer.piece(piece))
            await writer.drain()
        self._send(writer, answer.end())
        await writer.drain()

    def _send(self, writer, events):
        for event in events:
            if isinstance(event, str):
                writer.write(f"data: {event}\n\n".encode())
                continue
            if isinstance(event.get("type"), str):
                writer.write(f"event: {event['type']}\n".encode())
            writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def texts_in(content):
    """Return the texts of a message's content, whatever shape the dialect gives it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(str(each.get("text", "")) for each in parts if isinstance(each, dict))


def since_answer(messages):
    """Return what came after the model's last word, or call."""
    own = ("assistant", "model")
    last = [
        at
        for at, each in enumerate(messages)
        if each.get("role") in own or each.get("type") in ("function_call", "reasoning")
    ]
    return messages[last[-1] + 1 :] if last else messages


CHAT_USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}


class OpenAIChat:
    """Chat completions."""

    path = r"/chat/completions"

    def __init__(self, call):
        self.call, self.used_tool = call, False

    @staticmethod
    def read(body, _):
        users = [each for each in body["messages"] if each["role"] == "user"]
        return ModelCall(
            body["model"],
            texts_in(users[-1]["content"]) if users else "",
            [each["function"]["name"] for each in body.get("tools") or ()],
            "tool" in [each["role"] for each in since_answer(body["messages"])],
            bool(body.get("stream")),
            body,
        )

    def begin(self):
        return ()

    def piece(self, piece):
        yield self._chunk(self._delta(piece))

    def end(self):
        yield self._chunk({}, "tool_calls" if self.used_tool else "stop")
        yield {**self._chunk({}), "choices": [], "usage": CHAT_USAGE}
        yield "[DONE]"

    def whole(self, pieces):
        message = {"role": "assistant", "content": "".join(p for p in pieces if isinstance(p, str))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**self._chunk({}), "object": "chat.completion", "choices": [choice],
                "usage": CHAT_USAGE}  # fmt: skip

    def _delta(self, piece):
        if isinstance(piece, Thought):
            return {"reasoning_content": piece.text}
        if isinstance(piece, ToolUse):
            self.used_tool = True
            function = {"name": piece.name, "arguments": json.dumps(piece.args)}
            call = {"index": 0, "id": self.call.tool_id, "type": "function", "function": function}
            return {"role": "assistant", "tool_calls": [call]}
        return {"role": "assistant", "content": piece}

    def _chunk(self, delta, finish_reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {
            "id": f"chatcmpl-{self.call.number}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.call.model,
            "choices": [choice],
        }


class OpenAIResponses:
    """The Responses API."""

    path = r"/responses$"

    def __init__(self, call):
        self.call, self.output, self.number = call, [], 0

    @staticmethod
    def read(body, _):
        items = body["input"] if isinstance(body["input"], list) else []
        users = [each for each in items if each.get("role") == "user"]
        since = [str(each.get("type")) for each in since_answer(items)]
        names = [each.get("name", each["type"]) for each in body.get("tools") or ()]
        text = texts_in(users[-1]["content"]) if users else str(body["input"])
        return ModelCall(
            body["model"],
            text,
            names,
            any(each.endswith("_output") for each in since),
            bool(body.get("stream")),
            body,
        )

    def begin(self):
        yield self._event("response.created", response=self._response("in_progress"))

    def piece(self, piece):
        if isinstance(piece, ToolUse):
            item = {"type": "function_call", "name": piece.name, "call_id": self.call.tool_id,
                    "arguments": json.dumps(piece.args)}  # fmt: skip
            yield from self._item(item, ())
        elif isinstance(piece, Thought):
            item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": piece.text}]}
            place = {"summary_index": 0}
            yield from self._item(
                item,
                [
                    ("response.reasoning_summary_part.added", {
                        **place, "part": {"type": "summary_text", "text": ""}}),
                    ("response.reasoning_summary_text.delta", {**place, "delta": piece.text}),
                ],
            )  # fmt: skip
        else:
            part = {"type": "output_text", "text": piece, "annotations": []}
            item = {"type": "message", "role": "assistant", "content": [part]}
            place = {"content_index": 0}
            yield from self._item(
                item,
                [
                    ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
                    ("response.output_text.delta", {**place, "delta": piece}),
                    ("response.output_text.done", {**place, "text": piece}),
                ],
            )

    def end(self):
        yield self._event("response.completed", response=self._response("completed"))

    def whole(self, pieces):
        for piece in pieces:
            list(self.piece(piece))
        return self._response("completed")

    def _item(self, item, between):
        item = {"id": f"item_{self.call.number}_{len(self.output)}", "status": "completed", **item}
        place = {"output_index": len(self.output), "item_id": item["id"]}
        self.output.append(item)
        begun = {**item, "status": "in_progress"}
        if item["type"] == "message":
            begun["content"] = []
        yield self._event("response.output_item.added", item=begun, **place)
        for kind, fields in between:
            yield self._event(kind, **place, **fields)
        yield self._event("response.output_item.done", item=item, **place)

    def _event(self, kind, **fields):
        self.number += 1
        return {"type": kind, "sequence_number": self.number, **fields}

    def _response(self, status):
        usage = {
            "input_tokens": PROMPT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": COMPLETION_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        }
        return {
            "id": f"resp_{self.call.number}",
            "object": "response",
            "created_at": 1,
            "model": self.call.model,
            "status": status,
            "output": self.output,
            "usage": usage if status == "completed" else None,
        }


class Anthropic:
    """The Messages API."""

    path = r"/v1/messages(?!/)"

    def __init__(self, call):
        self.call, self.blocks, self.used_tool = call, 0, False

    @staticmethod
    def read(body, _):
        since = [each["content"] for each in since_answer(body["messages"])]
        parts = [part for each in since if isinstance(each, list) for part in each]
        after_tool = any(each.get("type") == "tool_result" for each in parts)
        said = [each for each in body["messages"] if each["role"] == "user"]
        texts = [texts_in(each["content"]) for each in said]
        text = next((each for each in reversed(texts) if each), "")
        names = [each["name"] for each in body.get("tools") or ()]
        return ModelCall(body["model"], text, names, after_tool, bool(body.get("stream")), body)

    def begin(self):
        usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": 1}
        yield {"type": "message_start", "message": self._message([], usage)}

    def piece(self, piece):
        index, self.blocks = self.blocks, self.blocks + 1
        block = self._block(piece)
        empty, delta = dict(block), {}
        if block["type"] == "text":
            empty["text"], delta = "", {"type": "text_delta", "text": piece}
        elif block["type"] == "thinking":
            empty["thinking"] = ""
            delta = {"type": "thinking_delta", "thinking": piece.text}
        else:
            empty["input"] = {}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(piece.args)}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}

    def end(self):
        reason = "tool_use" if self.used_tool else "end_turn"
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": COMPLETION_TOKENS},
        }
        yield {"type": "message_stop"}

    def whole(self, pieces):
        usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS}
        message = self._message([self._block(piece) for piece in pieces], usage)
        return {**message, "stop_reason": "tool_use" if self.used_tool else "end_turn"}

    def _block(self, piece):
        if isinstance(piece, Thought):
            return {"type": "thinking", "thinking": piece.text, "signature": "none"}
        if isinstance(piece, ToolUse):
            self.used_tool = True
            return {
                "type": "tool_use",
                "id": self.call.tool_id,
                "name": piece.name,
                "input": piece.args,
            }
        return {"type": "text", "text": piece}

    def _message(self, content, usage):
        return {
            "id": f"msg_{self.call.number}",
            "type": "message",
            "role": "assistant",
            "model": self.call.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }


class Gemini:
    """Gemini's generateContent, streamed or whole."""

    path = r":(?:streamG|g)enerateContent"

    def __init__(self, call):
        self.call = call

    @staticmethod
    def read(body, path):
        contents = body.get("contents") or []
        parts = [part for each in since_answer(contents) for part in each["parts"]]
        after_tool = any("functionResponse" in each for each in parts)
        texts = [texts_in(each["parts"]) for each in contents if each.get("role") == "user"]
        text = next((each for each in reversed(texts) if each.strip()), "")
        names = [
            function["name"]
            for each in body.get("tools") or ()
            for function in each.get("functionDeclarations") or ()
        ]
        model = re.search(r"models/([^:]+):", path).group(1)
        return ModelCall(model, text, names, after_tool, "streamG" in path, body)

    def begin(self):
        return ()

    def piece(self, piece):
        yield self._response([self._part(piece)])

    def end(self):
        yield self._response([{"text": ""}], finish_reason="STOP")

    def whole(self, pieces):
        return self._response([self._part(piece) for piece in pieces], finish_reason="STOP")

    def _part(self, piece):
        if isinstance(piece, Thought):
            return {"text": piece.text, "thought": True}
        if isinstance(piece, ToolUse):
            return {"functionCall": {"name": piece.name, "args": piece.args}}
        return {"text": piece}

    def _response(self, parts, *, finish_reason=None):
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
        more = {}
        if finish_reason is not None:
            candidate["finishReason"] = finish_reason
            more["usageMetadata"] = {
                "promptTokenCount": PROMPT_TOKENS,
                "candidatesTokenCount": COMPLETION_TOKENS,
                "totalTokenCount": PROMPT_TOKENS + COMPLETION_TOKENS,
            }
        return {"candidates": [candidate], "modelVersion": self.call.model, **more}


DIALECTS = (OpenAIChat, OpenAIResponses, Anthropic, Gemini)
