"""How providers are asked and answer, as far as a framework's client believes it."""

import json

from adapters.model_server import Asked, Call, Final, Thought


class OpenAIChat:
    """OpenAI's chat completions, streamed or not."""

    def asked(self, path, body):
        """Return the request."""
        assert path.endswith("/chat/completions"), path
        messages = body["messages"]
        tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        return Asked(
            model=body["model"],
            users=_texts(messages, "user"),
            said=_texts(messages, "assistant"),
            results=_texts(messages, "tool"),
            system="\n".join(_texts(messages, "system") + _texts(messages, "developer")),
            tools=tools,
            final=next((tool for tool in tools if tool.startswith("final_result")), None),
            stream=body.get("stream", False),
        )

    async def answer(self, asked, pieces):
        """Yield chunks, or one completion."""
        deltas = []
        calls = 0
        async for piece in pieces:
            if isinstance(piece, Final):
                piece = _final(asked, piece)
            if isinstance(piece, Call):
                delta = _tool_call(piece, calls)
                calls += 1
            elif isinstance(piece, Thought):
                delta = {"reasoning_content": piece.text}
            else:
                delta = {"content": piece}
            deltas.append(delta)
            if asked.stream:
                yield _event(_chunk(asked, {"role": "assistant", **delta}))
        finish = "tool_calls" if calls else "stop"
        if asked.stream:
            yield _event(_chunk(asked, {}, finish_reason=finish, usage=_usage(asked)))
            yield b"data: [DONE]\n\n"
        else:
            yield json.dumps(_completion(asked, deltas, finish)).encode()

    def error(self):
        """Return a refusal."""
        return "400 Bad Request", {"error": {"message": "no", "type": "invalid_request_error"}}


def _texts(messages, role):
    return [_text(each.get("content")) for each in messages if each["role"] == role]


def _text(content):
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _final(asked, piece):
    """Return a structured answer as the request wants it: by its tool, or as text."""
    if asked.final is not None:
        return Call(asked.final, piece.value)
    return json.dumps(piece.value)


def _tool_call(piece, index):
    function = {"name": piece.tool, "arguments": json.dumps(piece.args)}
    call = {"index": index, "id": f"call_{index}_{piece.tool}", "type": "function"}
    return {"tool_calls": [{**call, "function": function}]}


def _usage(asked):
    prompt, completion = asked.usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _chunk(asked, delta, *, finish_reason=None, usage=None):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": asked.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **({"usage": usage} if usage else {}),
    }


def _completion(asked, deltas, finish):
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    message = {"role": "assistant", "content": "".join(d.get("content", "") for d in deltas)}
    if calls:
        message["tool_calls"] = calls
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": _usage(asked),
    }


def _event(data):
    return b"data: " + json.dumps(data).encode() + b"\n\n"
