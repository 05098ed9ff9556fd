"""A client written for the original gateway works unmodified, in both of its forms.

It creates a session, posts a prompt and only then opens the stream, answers an approval while it
reads, asks for info, stats and messages, registers a tool, opens the WebSocket with the key in the
query, and maps status codes to errors of its own.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import websockets

from gateway.running import ACME, RunningGateway

ERRORS = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 422: "Refused", 429: "Limited"}
CREATE = {"model": "test", "blueprint": "careful", "userData": {"plan": "gold"}}
TOOL = {
    "name": "look_up",
    "description": "Looks up an order.",
    "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
    "callbackUrl": "http://127.0.0.1:9/tool",
}
WRONG = (
    ("POST", "/v1/sessions", {"model": 5}, ACME, "BadRequest"),
    ("GET", "/v1/sessions", None, "wrong", "Unauthorized"),
    ("GET", "/v1/sessions/nobody", None, ACME, "NotFound"),
    ("POST", "/v1/sessions", {"model": "test", "blueprint": "unknown"}, ACME, "Refused"),
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway whose operator allows callback tools on this machine."""
    callbacks = {"allow_networks": ["127.0.0.0/8"]}
    with RunningGateway(tmp_path_factory.mktemp("state"), callbacks=callbacks) as running:
        yield running


class Turn:
    """What both forms do with the lines of a stream."""

    def __init__(self):
        self.types, self.data, self._type = [], {}, None

    def feed(self, line):
        if line.startswith("event: "):
            self._type = line[7:]
        elif line.startswith("data: "):
            self.types.append(self._type)
            self.data[self._type] = json.loads(line[6:])
            return self._type
        return None


def check_turn(turn):
    assert turn.types[0] == "prompt_received"
    assert turn.types[-1] == "agent_end"
    assert turn.data["approval_resolved"]["status"] == "approved"
    assert turn.data["agent_end"]["lastMessage"]["role"] == "assistant"


def check_answers(info, stats, messages):
    assert {"sessionId", "state", "turns", "toolCalls", "totalTokens", "uptimeMs"} <= info.keys()
    assert {"costUsd", "promptCount", "tokenUsage", "lastEventIndex"} <= stats.keys()
    assert messages["messages"][0]["role"] == "user"


def test_the_synchronous_client_of_the_original_gateway_works_unmodified(gateway, acme, sid):
    path = f"/v1/sessions/{sid}"
    assert acme.post("/v1/sessions", json={**CREATE, "sessionId": sid}).status_code == 201
    assert acme.post(f"{path}/prompt", json={"text": "17"}).status_code == 202
    turn = Turn()
    with acme.stream("GET", f"{path}/events") as stream:
        for line in stream.iter_lines():
            seen = turn.feed(line)
            if seen == "approval_required":
                approval = turn.data[seen]["approvalId"]
                answer = acme.post(f"{path}/approve", json={"approvalId": approval})
                assert answer.status_code == 200
            if seen in {"agent_end", "agent_abort"}:
                break
    check_turn(turn)
    check_answers(*(acme.get(path + end).json() for end in ("", "/stats", "/messages")))
    assert acme.post(f"{path}/tools", json=TOOL).status_code == 201
    for verb, where, body, key, name in WRONG:
        answer = acme.request(verb, where, json=body, headers={"X-API-Key": key})
        assert ERRORS[answer.status_code] == name, answer.text
        assert {"error", "message"} <= answer.json().keys()
    assert acme.delete(path).json() == {"sessionId": sid, "status": "deleted"}


def test_the_asynchronous_client_of_the_original_gateway_works_unmodified(gateway, sid):
    asyncio.run(asynchronous_client(gateway, sid))


async def asynchronous_client(gateway, sid):
    path, headers = f"/v1/sessions/{sid}", {"Authorization": f"Bearer {ACME}"}
    async with httpx.AsyncClient(
        base_url=gateway.url, headers=headers, trust_env=False, timeout=20
    ) as client:
        created = await client.post("/v1/sessions", json={**CREATE, "sessionId": sid})
        assert created.status_code == 201
        assert (await client.post(f"{path}/prompt", json={"text": "17"})).status_code == 202
        turn = Turn()
        async with client.stream("GET", f"{path}/events") as stream:
            async for line in stream.aiter_lines():
                seen = turn.feed(line)
                if seen == "approval_required":
                    approval = turn.data[seen]["approvalId"]
                    answer = await client.post(f"{path}/approve", json={"approvalId": approval})
                    assert answer.status_code == 200
                if seen in {"agent_end", "agent_abort"}:
                    break
        check_turn(turn)
        answers = [(await client.get(path + end)).json() for end in ("", "/stats", "/messages")]
        check_answers(*answers)
        async with websockets.connect(f"{gateway.ws_url}{path}/ws?api_key={ACME}") as ws:
            await ws.send(json.dumps({"action": "steer", "text": "be brief"}))
            async with asyncio.timeout(20):
                assert json.loads(await ws.recv())["action"] == "steer"
        assert (await client.delete(path)).status_code == 200
