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


class Gemini:
    """Gemini's `generateContent`, streamed or not."""

    def asked(self, path, body):
        """Return the request."""
        model, _, verb = path.partition("?")[0].rpartition("/")[2].partition(":")
        contents = body["contents"]
        declared = [f for t in body.get("tools", ()) for f in t.get("functionDeclarations", ())]
        system = (body.get("systemInstruction") or {}).get("parts", ())
        return Asked(
            model=model,
            users=_gemini_texts(contents, "user"),
            said=_gemini_texts(contents, "model"),
            results=[
                _gemini_result(part["functionResponse"]["response"])
                for content in contents
                for part in content["parts"]
                if "functionResponse" in part
            ],
            system="\n".join(part.get("text", "") for part in system),
            tools=[each["name"] for each in declared],
            stream=verb == "streamGenerateContent",
        )

    async def answer(self, asked, pieces):
        """Yield chunks, or one response."""
        parts = []
        async for piece in pieces:
            if isinstance(piece, Final):
                piece = json.dumps(piece.value)
            if isinstance(piece, Call):
                part = {"functionCall": {"name": piece.tool, "args": piece.args}}
            elif isinstance(piece, Thought):
                part = {"text": piece.text, "thought": True}
            else:
                part = {"text": piece}
            parts.append(part)
            if asked.stream:
                yield _event(_gemini_response([part]))
        prompt, completion = asked.usage
        usage = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": completion,
            "totalTokenCount": prompt + completion,
        }
        if asked.stream:
            yield _event(_gemini_response([{"text": ""}], finish="STOP", usage=usage))
        else:
            yield json.dumps(_gemini_response(parts, finish="STOP", usage=usage)).encode()

    def error(self):
        """Return a refusal."""
        problem = {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}
        return "400 Bad Request", {"error": problem}


def _gemini_texts(contents, role):
    texts = [
        "".join(part.get("text", "") for part in content["parts"])
        for content in contents
        if content["role"] == role
    ]
    return [text for text in texts if text]


def _gemini_result(response):
    return str(response["result"]) if set(response) == {"result"} else json.dumps(response)


def _gemini_response(parts, *, finish=None, usage=None):
    candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **({"usageMetadata": usage} if usage else {})}


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


class OpenAIResponses:
    """OpenAI's Responses API, streamed."""

    def asked(self, path, body):
        """Return the request."""
        assert path.endswith("/responses"), path
        items = body["input"]
        items = [{"role": "user", "content": items}] if isinstance(items, str) else items
        return Asked(
            model=body["model"],
            users=_texts([each for each in items if "role" in each], "user"),
            said=_texts([each for each in items if "role" in each], "assistant"),
            results=[each["output"] for each in items if each.get("type") == _OUTPUT],
            system=body.get("instructions") or "",
            tools=[tool["name"] for tool in body.get("tools", ())],
            stream=body.get("stream", False),
        )

    async def answer(self, asked, pieces):
        """Yield the events of an answer: each piece is an item of its own."""
        output = []
        created = {"type": "response.created", "response": _response(asked, [], "in_progress")}
        yield _event({**created, "sequence_number": 0})
        async for piece in pieces:
            number = len(output)
            item = _item(piece, number)
            output.append(item)
            where = {"output_index": number, "item_id": item["id"], "sequence_number": number}
            yield _event({"type": "response.output_item.added", "item": item, **where})
            if item["type"] == "message":
                delta = {"type": "response.output_text.delta", "delta": piece, "logprobs": []}
                yield _event({**delta, "content_index": 0, **where})
            yield _event({"type": "response.output_item.done", "item": item, **where})
        whole = {"type": "response.completed", "response": _response(asked, output, "completed")}
        yield _event({**whole, "sequence_number": 99})

    def error(self):
        """Return a refusal."""
        return OpenAIChat().error()


class OpenAI:
    """Both of OpenAI's APIs, as the request's path has it."""

    def asked(self, path, body):
        """Return the request."""
        api = OpenAIResponses() if path.endswith("/responses") else OpenAIChat()
        asked = api.asked(path, body)
        asked.api = api
        return asked

    def answer(self, asked, pieces):
        """Yield what the API of the request says."""
        return asked.api.answer(asked, pieces)

    def error(self):
        """Return a refusal."""
        return OpenAIChat().error()


_OUTPUT = "function_call_output"


def _item(piece, number):
    if isinstance(piece, Call):
        return {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}_{piece.tool}",
            "name": piece.tool,
            "arguments": json.dumps(piece.args),
            "status": "completed",
        }
    text = json.dumps(piece.value) if isinstance(piece, Final) else piece
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _response(asked, output, status):
    prompt, completion = asked.usage
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": asked.model,
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        },
    }
