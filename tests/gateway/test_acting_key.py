"""The key that acts is the key that counts and signs, whichever key opened the session."""

import asyncio
import contextlib
import json

import pytest
from websockets.sync.client import connect

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.keys import Key, digest_of, signing_secret_of
from frontdesk.gateway.tool_webhooks import signature
from gateway.agents import BLUEPRINTS
from gateway.running import RunningGateway, create, events, turn_of, until
from gateway.test_callbacks import answering, tool_server

OLD, NEW = "old-secret-0123456789abcdef", "new-secret-0123456789abcdef"
OLD_KEY = Key("k-old", "acme", "ci", digest_of(OLD))
NEW_KEY = Key("k-new", "acme", "ci", digest_of(NEW))


@blueprint("waiting")
async def waiting(turn: Turn):
    """Use 3 tokens, wait for what the prompt names, use 100 more."""
    turn.usage(completion=3)
    yield "before "
    if turn.text == "approval":
        await turn.approval("refund")
    elif turn.text == "question":
        await turn.ask("Which one?")
    elif turn.text == "steering":
        while not turn.steering():
            await asyncio.sleep(0.01)
    elif turn.text == "tool":
        await turn.call_tool("lookup")
    turn.usage(completion=100)
    yield "after "


AGENTS = Blueprints([waiting, *BLUEPRINTS.values()], default="parrot")


@contextlib.contextmanager
def rotated(tmp_path, **tables):
    """Run a gateway whose key can be rotated: yield it, and the two keys' clients."""
    tables.setdefault("callbacks", {"allow_networks": ["127.0.0.0/8"]})
    with (
        RunningGateway(tmp_path, keys=(OLD_KEY, NEW_KEY), agents=AGENTS, **tables) as gateway,
        gateway.client(OLD) as old,
        gateway.client(NEW) as new,
    ):
        yield gateway, old, new


def revoke_old(gateway):
    gateway.call(lambda: gateway.gateway.reload(gateway.config, keys=[NEW_KEY]))


def used(gateway, key_id):
    """Return what a key is metered with: prompts and completion tokens."""
    usage = gateway.gateway.meter.of_key("acme", key_id)
    return usage.prompts, usage.tokens.completion


def test_what_a_new_key_asks_for_is_metered_to_it_and_not_to_the_revoked_one(tmp_path):
    with rotated(tmp_path) as (gateway, old, new):
        create(old, "s")
        turn_of(old, "s", "one")
        revoke_old(gateway)
        turn_of(new, "s", "two words")
        assert used(gateway, "k-old") == (1, 1)
        assert used(gateway, "k-new") == (1, 2)
        assert new.get("/v1/usage").json()["tenant"]["prompts"] == 2


def test_a_prompt_on_a_websocket_counts_for_the_sockets_key(tmp_path):
    with rotated(tmp_path) as (gateway, old, _):
        create(old, "s")
        with connect(f"{gateway.ws_url}/v1/sessions/s/ws?api_key={NEW}", proxy=None) as socket:
            socket.send(json.dumps({"action": "prompt", "text": "a b c"}))
            while json.loads(socket.recv(20)).get("event") != "agent_end":
                pass
        assert used(gateway, "k-old") == (0, 0)
        assert used(gateway, "k-new") == (1, 3)


def test_prompts_that_wait_count_for_the_key_that_each_came_with(tmp_path):
    with rotated(tmp_path) as (gateway, old, new):
        create(old, "s", blueprint="waiting")
        old.post("/v1/sessions/s/prompt", json={"text": "approval"})
        with events(old, "s") as stream:
            asked = until(stream, "approval_required")[-1][2]["approvalId"]
            assert new.post("/v1/sessions/s/prompt", json={"text": "x"}).json()["queued"]
            old.post("/v1/sessions/s/approve", json={"approvalId": asked})
            until(stream, "agent_end")
            until(stream, "agent_end")
        assert used(gateway, "k-old") == (1, 103)
        assert used(gateway, "k-new") == (1, 103)


def test_a_prompt_with_an_idempotency_key_counts_for_the_key_that_sends_it(tmp_path):
    with rotated(tmp_path) as (gateway, old, new):
        create(old, "s")
        for _ in range(2):
            again = {"Idempotency-Key": "once"}
            sent = new.post("/v1/sessions/s/prompt", json={"text": "a b"}, headers=again)
            assert sent.status_code == 202
        with events(new, "s") as stream:
            until(stream, "agent_end")
        assert used(gateway, "k-old") == (0, 0)
        assert used(gateway, "k-new") == (1, 2)


ANSWERS = {
    "approve": ("approval", "approval_required", lambda data: {"approvalId": data["approvalId"]}),
    "reject": ("approval", "approval_required", lambda data: {"approvalId": data["approvalId"]}),
    "respond": ("question", "ask_user", lambda data: {"ref": data["ref"], "response": "that"}),
    "steer": ("steering", "message_delta", lambda data: {"text": "go"}),
}


@pytest.mark.parametrize("over", ["HTTP", "WebSocket"])
@pytest.mark.parametrize("action", ANSWERS)
def test_what_a_turn_uses_counts_for_the_key_that_acted_on_it_last(tmp_path, action, over):
    text, event, body_of = ANSWERS[action]
    with rotated(tmp_path) as (gateway, old, new):
        create(old, "s", blueprint="waiting")
        old.post("/v1/sessions/s/prompt", json={"text": text})
        with events(new, "s") as stream:
            body = body_of(until(stream, event)[-1][2])
            revoke_old(gateway)
            if over == "HTTP":
                assert new.post(f"/v1/sessions/s/{action}", json=body).is_success
            else:
                url = f"{gateway.ws_url}/v1/sessions/s/ws?api_key={NEW}"
                with connect(url, proxy=None) as socket:
                    socket.send(json.dumps({"action": action, **body}))
                    assert "status" in json.loads(socket.recv(20))
            until(stream, "agent_end")
        assert used(gateway, "k-old") == (1, 3)
        assert used(gateway, "k-new") == (0, 100)


def test_an_action_that_is_refused_moves_nothing_to_its_key(tmp_path):
    with rotated(tmp_path) as (gateway, old, new):
        create(old, "s", blueprint="waiting")
        old.post("/v1/sessions/s/prompt", json={"text": "approval"})
        with events(old, "s") as stream:
            asked = until(stream, "approval_required")[-1][2]["approvalId"]
            wrong = new.post("/v1/sessions/s/approve", json={"approvalId": "apr_0"})
            assert wrong.status_code == 400
            old.post("/v1/sessions/s/approve", json={"approvalId": asked})
            until(stream, "agent_end")
        assert used(gateway, "k-old") == (1, 103)
        assert used(gateway, "k-new") == (0, 0)


def tool(server, name="lookup"):
    return {
        "name": name,
        "description": "look something up",
        "parameters": {"type": "object"},
        "callbackUrl": f"http://127.0.0.1:{server.server_port}/hook",
    }


def signer(gateway, asked):
    """Return the id of the key that a call was signed with."""
    _, headers, body = asked
    headers = {name.lower(): value for name, value in headers.items()}
    for key_id in ("k-old", "k-new"):
        secret = signing_secret_of(gateway.gateway.callbacks._master_secret, key_id)
        wanted = signature(secret, timestamp=headers["x-frontdesk-timestamp"], body=body)
        if headers["x-frontdesk-signature"] == wanted:
            return key_id
    return None


def test_a_tool_is_signed_with_the_secret_of_the_key_that_attached_it(tmp_path):
    with tool_server(answering()) as server, rotated(tmp_path) as (gateway, old, new):
        create(old, "s", blueprint="handy")
        assert new.post("/v1/sessions/s/tools", json=tool(server)).status_code == 201
        turn_of(old, "s", "asked by another key")
        assert new.delete("/v1/sessions/s/tools/lookup").status_code == 200
        assert old.post("/v1/sessions/s/tools", json=tool(server)).status_code == 201
        turn_of(new, "s", "attached by another key")
        assert [signer(gateway, each) for each in server.asked] == ["k-new", "k-old"]


def test_sessions_count_against_the_limit_of_the_key_that_opens_them(tmp_path):
    with rotated(tmp_path, limits={"sessions_per_key": 1}) as (_, old, new):
        create(old, "a")
        create(new, "b")
        body = {"model": "test", "blueprint": "parrot"}
        for client in (old, new):
            refused = client.post("/v1/sessions", json=body)
            assert (refused.status_code, refused.json()["scope"]) == (429, "per_api_key")


def test_every_action_counts_against_the_rate_of_the_key_that_acts(tmp_path):
    with rotated(tmp_path, limits={"requests_per_minute": 5}) as (_, old, new):
        create(old, "s")
        left = [
            int(client.post("/v1/sessions/s/abort", json={}).headers["x-ratelimit-remaining"])
            for client in (old, new, new, old)
        ]
        assert left == [3, 4, 3, 2]
