"""Traces of real processes: one tree over a hop, from a client's own span to a tool's server."""

import pytest

from gateway.command import serving
from gateway.exported_spans import ExportedSpans
from gateway.running import events, until
from gateway.test_callbacks import answering, tool_server
from gateway.worker_processes import workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONFIG = """
[callbacks]
allow_networks = ["127.0.0.0/8"]
[blueprints.handy]
kind = "python"
target = "gateway.agents:handy"
"""
TOOL = {"name": "lookup", "description": "", "parameters": {}}


def test_a_request_over_a_hop_to_a_tool_call_is_one_tree(tmp_path):
    spans = ExportedSpans(tmp_path)
    with (
        tool_server(answering()) as tool,
        workers(tmp_path, 2, config=CONFIG, spans=spans) as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        sid = first.post("/v1/sessions", json={"model": "openai:gpt-5"}).json()["sessionId"]
        (created,) = eventually(lambda: service.lines(event="session_started", session_id=sid))
        # Whoever has it not is asked for the turn.
        asked = second if created["node"].endswith("/1") else first
        attached = {**TOOL, "callbackUrl": f"http://127.0.0.1:{tool.server_port}/"}
        assert asked.post(f"/v1/sessions/{sid}/tools", json=attached).is_success
        asked.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
        assert asked.post(f"/v1/sessions/{sid}/prompt", json={"text": "secret"}).is_success
        del asked.headers["traceparent"]
        with events(asked, sid) as stream:
            assert until(stream, "agent_end", "agent_abort")[-1][1] == "agent_end"
        turn = spans.one("invoke_agent handy")
        call = spans.one("execute_tool lookup")
        requests = eventually(
            lambda: len(found := spans.named("POST /v1/sessions/{sessionId}/prompt")) == 2 and found
        )
        ((_, headers, _),) = tool.asked
        path = f"/v1/sessions/{sid}/prompt"
        (line,) = eventually(lambda: service.lines(event="request", path=path))
        assert service.server.terminate() == 0
    parents = {span["context"]["span_id"]: span["parent_id"] for span in requests}
    (first_hop,) = [span for span, parent in parents.items() if parent == f"0x{SPAN}"]
    (second_hop,) = [span for span, parent in parents.items() if parent == first_hop]
    assert turn["parent_id"] == second_hop
    assert call["parent_id"] == turn["context"]["span_id"]
    told = {name.lower(): value for name, value in headers.items()}["traceparent"]
    assert told.split("-")[1:3] == [TRACE, call["context"]["span_id"][2:]]
    assert {span["context"]["trace_id"] for span in (*requests, turn, call)} == {f"0x{TRACE}"}
    assert line["trace_id"] == TRACE
    # Two processes made them.
    made_by = {span["resource"]["attributes"]["service.instance.id"] for span in requests}
    assert len(made_by) == 2
    assert "secret" not in spans.text
    assert "fastapi" not in spans.text


def test_spans_of_a_service_that_ends_in_the_middle_are_exported(tmp_path):
    spans = ExportedSpans(tmp_path)
    config = (
        "[server]\ngrace_s = 1\n"
        + CONFIG
        + '[blueprints.patient]\nkind = "python"\ntarget = "gateway.agents:patient"\n'
    )
    with serving(tmp_path, config=config, spans=spans) as server, server.client() as client:
        body = {"model": "m", "blueprint": "patient", "prompt": "hello"}
        sid = client.post("/v1/sessions", json=body).json()["sessionId"]
        with events(client, sid) as stream:
            until(stream, "message_delta")
            server.terminate()
        assert spans.one("invoke_agent patient")["attributes"]["error.type"]
