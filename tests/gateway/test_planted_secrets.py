"""What no log, trace or number may show is looked for in all of them, over real processes.

A service of two workers over an engine with a password, traced; each secret and each text of
somebody's is a word that can be found. Everything fails that can be made to.
"""

import base64
import json
import os
import signal
from contextlib import suppress

import httpx
import pytest
from websockets.sync.client import connect

from gateway import secretive_agents as agents
from gateway.command import frontdesk
from gateway.exported_spans import ExportedSpans
from gateway.running import events, until
from gateway.test_callbacks import answering, tool_server
from gateway.worker_processes import WITHIN_S, workers
from support.engines import VALKEY, EngineServer
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "fd_secret-of-the-tenants-key-0123456789"
PASSWORD = "secret-of-the-engine"
NODES = "secret-of-all-nodes-which-is-longer-than-32-bytes"
WRONG = "fd_secret-that-opens-nothing-0123456789"
PROMPT = "text-of-the-prompt"
SYSTEM = "text-of-the-system-prompt"
DENIED = "text-that-is-denied"
STEER, ABORT, REASON, ANSWER, FILE, BODY, TOOL_ERROR = (
    f"text-of-{name}"
    for name in ("steering", "an-abort", "an-approval", "an-answer", "a-file", "a-body", "a-tool")
)
TEXTS = (PROMPT, SYSTEM, DENIED, STEER, ABORT, REASON, ANSWER, FILE, BODY, TOOL_ERROR,
         *agents.TEXTS)  # fmt: skip
SECRETS = (KEY, PASSWORD, NODES, WRONG)

CONFIG = f"""
[server]
grace_s = 1
[callbacks]
allow_networks = ["127.0.0.0/8"]
[guardrails]
denied_words = ["{DENIED}"]
[blueprints.talker]
kind = "python"
target = "gateway.secretive_agents:talker"
[blueprints.doomed]
kind = "python"
target = "gateway.secretive_agents:doomed"
isolation = "process"
"""


def opened(client, blueprint):
    body = {"model": "test", "blueprint": blueprint, "systemPrompt": SYSTEM}
    answer = client.post("/v1/sessions", json=body)
    assert answer.status_code == 201, answer.text
    return f"/v1/sessions/{answer.json()['sessionId']}"


def said(client, session, text=PROMPT):
    assert client.post(f"{session}/prompt", json={"text": text}).status_code == 202
    return events(client, session.rpartition("/")[2])


def a_whole_turn(client, answer):
    """Everything that one says to the other, and a callback tool that fails."""
    session = opened(client, "talker")
    with tool_server(answer) as tool:
        url = f"http://127.0.0.1:{tool.server_port}/"
        attached = {"name": "lookup", "description": "", "parameters": {}, "callbackUrl": url}
        assert client.post(f"{session}/tools", json=attached).is_success
        with said(client, session) as stream:
            asked = until(stream, "approval_required")[-1][2]["approvalId"]
            client.post(f"{session}/steer", json={"text": STEER})
            client.post(f"{session}/approve", json={"approvalId": asked, "reason": REASON})
            reference = until(stream, "ask_user")[-1][2]["ref"]
            client.post(f"{session}/respond", json={"ref": reference, "response": ANSWER})
            assert until(stream, "agent_end", "agent_abort")[-1][1] == "agent_end"
    return session


def failures_of_turns(client):
    """An agent that raises, one whose process is killed, an abort, and the end in the middle."""
    for how in ("raise", "killed"):
        with said(client, opened(client, "doomed"), f"{PROMPT} {how}") as stream:
            until(stream, "agent_abort", "session_end")
    session = opened(client, "doomed")
    with said(client, session) as stream:
        until(stream, "approval_required")
        client.post(f"{session}/abort", json={"reason": ABORT})
        until(stream, "agent_abort")
    with said(client, session) as stream:
        until(stream, "approval_required")
        client.delete(session)
        until(stream, "session_end")


def refusals(client, url):
    """Requests that are wrong, with secrets and texts where they do not belong."""
    session = opened(client, "talker")
    client.post(f"{session}/prompt", json={"text": f"{PROMPT} {DENIED}"})
    client.post(f"{session}/prompt", json={"text": [BODY], BODY: BODY})
    client.post(f"{session}/prompt", content=f'{{"text": "{BODY}'.encode())
    data = base64.b64encode(FILE.encode()).decode()
    file = {"name": "note.txt", "mediaType": "text/plain", "data": data}
    client.post(f"{session}/prompt", json={"text": PROMPT, "attachments": [file]})
    client.post("/v1/sessions", json={"model": "test", "tools": [BODY], "systemPrompt": SYSTEM})
    client.get(f"{session}/stats?api_key={KEY}&text={BODY}")
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as anybody:
        anybody.get("/v1/sessions", headers={"X-API-Key": WRONG})
        anybody.get("/v1/sessions", headers={"Authorization": f"Bearer {WRONG}"})
        anybody.get(f"{session}/events?api_key={WRONG}")
        anybody.post("/dashboard/login", json={"key": WRONG})
        anybody.post("/dashboard/login", json={"key": KEY, BODY: BODY})
        anybody.get("/ops/sessions", headers={"X-API-Key": KEY})
    with suppress(Exception), connect(f"ws{url[4:]}{session}/ws?api_key={WRONG}") as socket:
        socket.recv(5)
    with connect(f"ws{url[4:]}{session}/ws?api_key={KEY}") as socket:
        socket.send(json.dumps({"action": "prompt", "text": PROMPT}))
        socket.send(json.dumps({"action": BODY, "text": BODY}))
        socket.send(BODY)
        socket.recv(10)


def failures_of_the_service(service, engine, client):
    """The engine is cut and back; a worker dies with what it has."""
    opened(client, "talker")
    engine.kill()
    eventually(lambda: service.lines(event="engine_changed", state="lost"), within_s=WITHIN_S)
    client.post("/v1/sessions", json={"model": "test", "systemPrompt": SYSTEM})
    engine.start()
    eventually(lambda: service.lines(event="engine_changed", state="answers"), within_s=WITHIN_S)
    life = service.life(1)
    os.kill(life.pid, signal.SIGKILL)
    service.await_another(1, life)


def made_secrets(directory, client):
    """Secrets that the service makes itself: an operator's key, a session's token."""
    state = ("--state-dir", str(directory / "state"))
    ran = frontdesk(directory, "keys", "create", "--operator", "--name", "ops", *state)
    (operator,) = [word for word in ran.stdout.split() if word.startswith("fd_")]
    session = opened(client, "talker")
    token = client.post(f"{session}/tokens", json={"scopes": ["read"]}).json()["token"]
    shown = client.get(session, headers={"X-API-Key": token})
    assert shown.status_code == 200
    return operator, token


def test_no_secret_and_no_text_is_in_a_log_a_trace_or_a_number(tmp_path):
    spans = ExportedSpans(tmp_path)
    for name, secret in (("nodes", NODES), ("engine", PASSWORD)):
        (tmp_path / name).write_text(secret)
    with EngineServer(VALKEY, requirepass=PASSWORD) as engine:
        environment = {
            "FRONTDESK_CLUSTER": engine.url,
            "FRONTDESK_CONVERSATIONS__STORE": "memory",
            "FRONTDESK_CLUSTER__NAME": "n",
            "FRONTDESK_CLUSTER__SECRET_FILE": str(tmp_path / "nodes"),
            "FRONTDESK_CLUSTER__PASSWORD_FILE": str(tmp_path / "engine"),
            "FRONTDESK_LOG__LEVEL": "debug",
        }
        running = workers(
            tmp_path, 2, config=CONFIG, keys=f"acme/ci:{KEY}", spans=spans, **environment
        )
        with running as service, service.server.client(KEY) as client:
            operator, token = made_secrets(tmp_path, client)
            error = json.dumps({"error": TOOL_ERROR}).encode()
            session = a_whole_turn(client, answering(body=error))
            a_whole_turn(client, answering(500, BODY.encode()))
            failures_of_turns(client)
            refusals(client, service.server.url)
            eventually(lambda: service.lines(event="session_ended"))
            with service.server.client(operator) as operators:
                numbers = eventually(lambda: operators.get("/metrics").text)
                operators.get("/ops/sessions")
            eventually(lambda: len(spans.named("execute_tool lookup")) == 2)
            failures_of_the_service(service, engine, client)
            with service.server.client(operator) as operators:
                numbers += eventually(lambda: operators.get("/metrics").text)
            assert client.get(session).status_code in (200, 404, 410, 503)
            service.server.terminate()
        log, output = service.server.log, service.server.output
    # That there was something to be found in, and that it would have been found.
    words = {line["event"] for line in map(json.loads, log.splitlines()) if "event" in line}
    assert {
        "session_started",
        "session_ended",
        "turn_failed",
        "request",
        "node_changed",
        "engine_changed",
        "worker_changed",
    } <= words
    assert "invoke_agent talker" in spans.text
    assert all(session.rpartition("/")[2] in text for text in (log, spans.text))
    assert "frontdesk_sessions" in numbers
    for name, text in (
        ("log", log),
        ("output", output),
        ("spans", spans.text),
        ("numbers", numbers),
    ):
        for planted in (*SECRETS, *TEXTS, operator, token):
            assert planted not in text, f"{planted} is in the {name}: {around(planted, text)}"


def around(planted, text):
    """Return where it stands."""
    at = text.index(planted)
    return text[max(0, at - 600) : at + 200]
