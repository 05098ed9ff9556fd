"""Traces of requests and turns: which spans there are, whose child each is, what is in none."""

import json
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from websockets.sync.client import connect

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.agents.events import ToolExecutionEnd, ToolExecutionStart
from frontdesk.agents.trace_context import traced_context
from frontdesk.gateway.app import create_app
from frontdesk.gateway.tracing.request_spans import RequestSpans
from frontdesk.gateway.tracing.tracing import Tracing
from frontdesk.gateway.tracing.turn_span import TurnSpan
from frontdesk.gateway.tracing.turn_spans import TurnSpans
from gateway.agents import careful, clumsy, deaf, handy, parrot, patient
from gateway.asgi import ask
from gateway.running import ACME, RunningGateway, create, events, turn_of, until
from gateway.test_callbacks import answering, tool_server
from support.waiting import eventually

FIND = Tracing.find
"""As it is, without the spans of these tests."""
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@blueprint("working")
async def working(turn: Turn):
    """Ask the model, use a tool, ask again; say in which trace it runs."""
    from opentelemetry.trace import get_current_span

    turn.usage(prompt=30, completion=5)
    turn.emit(ToolExecutionStart("c1", "search", {"query": "the tool's secret argument"}))
    turn.emit(ToolExecutionEnd("c1", "search", "ok", {"found": "the tool's secret result"}))
    turn.usage(prompt=50, completion=7)
    yield f"{get_current_span().get_span_context().span_id:016x} {turn.traceparent}"


@blueprint("stopping")
async def stopping(turn: Turn):
    """Begin a tool that never ends."""
    turn.emit(ToolExecutionStart("c1", "forever", None))
    yield "on it"
    while True:
        await turn.approval("more")


AGENTS = Blueprints(
    [parrot, patient, careful, handy, clumsy, deaf, working, stopping], default="parrot"
)


class Exported(InMemorySpanExporter):
    """The spans that were ended, by name."""

    def named(self, name):
        return [span for span in self.get_finished_spans() if span.name == name]

    def one(self, name):
        (span,) = eventually(lambda: self.named(name))
        return span


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A gateway that is traced, and what it exports; as do those that a test has of its own."""
    exporter, provider = Exported(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def find(_, *, text, route):
        tracer = provider.get_tracer("frontdesk")
        return Tracing(RequestSpans(tracer, route=route), TurnSpans(tracer, text=text))

    callbacks = {"allow_networks": ["127.0.0.0/8"]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Tracing, "find", classmethod(find))
        directory = tmp_path_factory.mktemp("traced")
        with RunningGateway(directory, agents=AGENTS, callbacks=callbacks) as gateway:
            yield gateway, exporter
    provider.shutdown()


@pytest.fixture
def exported(running):
    running[1].clear()
    return running[1]


@pytest.fixture
def traced(running, exported):
    gateway, _ = running
    yield gateway
    service = gateway.gateway.service

    async def end_all():
        for each in list(service.all_live()):
            await service.tenant(each.tenant_id, each.api_key).delete(each.session_id)

    # Not by requests, which would have spans.
    gateway.call(end_all)
    assert len(gateway.gateway.tracing.turns) == 0


def id_of(span):
    return span.context.span_id


def test_a_request_a_turn_its_model_and_its_tools_are_one_tree(traced, exported):
    with traced.client() as client:
        create(client, "s", blueprint="working", model="openai:gpt-5")
        client.headers["traceparent"] = PARENT
        seen = turn_of(client, "s", "my pin is 4711")
    assert seen[-1][1] == "agent_end"
    request = exported.one("POST /v1/sessions/{sessionId}/prompt")
    turn, tool = exported.one("invoke_agent working"), exported.one("execute_tool search")
    chats = exported.named("chat openai:gpt-5")
    assert request.parent.span_id == int(PARENT.split("-")[2], 16)
    assert turn.parent.span_id == id_of(request)
    assert tool.parent.span_id == id_of(turn)
    assert [each.parent.span_id for each in chats] == [id_of(turn)] * 2
    assert {f"{s.context.trace_id:032x}" for s in (request, turn, tool, *chats)} == {TRACE}
    assert (request.kind, chats[0].kind, tool.kind) == (
        SpanKind.SERVER,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
    )
    assert turn.start_time <= chats[0].start_time <= tool.start_time <= tool.end_time
    assert tool.end_time <= chats[1].start_time <= chats[1].end_time <= turn.end_time
    used = [
        (
            each.attributes["gen_ai.usage.input_tokens"],
            each.attributes["gen_ai.usage.output_tokens"],
        )
        for each in (*chats, turn)
    ]
    assert used == [(30, 5), (50, 7), (80, 12)]


def test_a_turns_span_says_what_the_conventions_name(traced, exported):
    with traced.client() as client:
        create(client, "s", blueprint="working", model="openai:gpt-5")
        turn_of(client, "s", "hello")
    attributes = dict(exported.one("invoke_agent working").attributes)
    assert attributes.pop("frontdesk.queue_seconds") >= 0
    assert attributes.pop("frontdesk.request_id").startswith("req_")
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "working",
        "gen_ai.conversation.id": "s",
        "gen_ai.request.model": "openai:gpt-5",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 80,
        "gen_ai.usage.output_tokens": 12,
        "frontdesk.tenant": "acme",
    }
    request = exported.one("POST /v1/sessions/{sessionId}/prompt").attributes
    assert request["http.request.method"] == "POST"
    assert request["http.route"] == "/v1/sessions/{sessionId}/prompt"
    assert request["http.response.status_code"] == 202
    assert request["url.path"] == "/v1/sessions/s/prompt"


def test_an_agent_runs_in_the_context_of_its_turn_and_can_pass_it_on(traced, exported):
    with traced.client() as client:
        create(client, "s", blueprint="working")
        seen = turn_of(client, "s", "hello")
    span = exported.one("invoke_agent working")
    said = "".join(data["delta"] for _, name, data in seen if name == "message_delta")
    span_id = f"{id_of(span):016x}"
    assert said.startswith(f"{span_id} 00-{span.context.trace_id:032x}-{span_id}-")


def test_a_callback_tool_is_told_its_span(traced, exported):
    with tool_server(answering()) as tool, traced.client() as client:
        create(client, "s", blueprint="handy")
        url = f"http://127.0.0.1:{tool.server_port}/"
        attached = {"name": "lookup", "description": "", "parameters": {}, "callbackUrl": url}
        assert client.post("/v1/sessions/s/tools", json=attached).is_success
        turn_of(client, "s", "hello")
        ((_, headers, _),) = tool.asked
    span = exported.one("execute_tool lookup")
    told = {name.lower(): value for name, value in headers.items()}["traceparent"]
    assert told.startswith(f"00-{span.context.trace_id:032x}-{id_of(span):016x}-")


def test_nothing_that_is_said_is_in_a_span(traced, exported):
    with traced.client() as client:
        create(client, "s", blueprint="working", systemPrompt="the system's secret")
        turn_of(client, "s", "the user's secret")
        create(client, "c", blueprint="clumsy")
        turn_of(client, "c", "the user's secret")
        create(client, "p", blueprint="patient")
        client.post("/v1/sessions/p/prompt", json={"text": "the user's secret"})
        client.post("/v1/sessions/p/abort", json={"reason": "the client's secret reason"})
        client.get("/v1/sessions/s/stats?key=the-secret-in-a-query")
    eventually(lambda: exported.named("invoke_agent patient"))
    shown = "".join(span.to_json() for span in exported.get_finished_spans())
    assert "secret" not in shown
    assert "swordfish" not in shown


def test_with_trace_text_the_spans_have_what_was_said(tmp_path, exported):
    with (
        RunningGateway(tmp_path, agents=AGENTS, server={"trace_text": True}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="working")
        turn_of(client, "s", "hello")
    turn, tool = exported.one("invoke_agent working"), exported.one("execute_tool search")
    assert turn.attributes["gen_ai.input.messages"] == (
        '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]'
    )
    assert '"role":"assistant"' in turn.attributes["gen_ai.output.messages"]
    assert "secret argument" in tool.attributes["gen_ai.tool.call.arguments"]
    assert "secret result" in tool.attributes["gen_ai.tool.call.result"]


def test_a_turn_ends_its_span_once_whatever_ends_it(traced, exported):
    """An error, an abort, a deadline elsewhere, the session's end: each with its `error.type`."""
    with traced.client() as client:
        create(client, "c", blueprint="clumsy")
        turn_of(client, "c", "hello")
        for session, ending in (("a", "abort"), ("d", "delete")):
            create(client, session, blueprint="stopping")
            client.post(f"/v1/sessions/{session}/prompt", json={"text": "hello"})
            with events(client, session) as stream:
                until(stream, "approval_required")
                if ending == "abort":
                    client.post(f"/v1/sessions/{session}/abort", json={"reason": "my own"})
                else:
                    client.delete(f"/v1/sessions/{session}")
                until(stream, "agent_abort")
    (failed,) = eventually(lambda: exported.named("invoke_agent clumsy"))
    assert failed.attributes["error.type"] == "RuntimeError"
    assert failed.status.status_code is StatusCode.ERROR
    aborted, deleted = eventually(
        lambda: len(found := exported.named("invoke_agent stopping")) == 2 and found
    )
    assert aborted.attributes["error.type"] == "aborted"
    assert deleted.attributes["error.type"] == "deleted"
    assert aborted.status.status_code is StatusCode.UNSET
    # And the tools that it ran ended with it.
    tools = exported.named("execute_tool forever")
    assert [each.attributes["error.type"] for each in tools] == ["aborted", "deleted"]


def test_a_turn_that_runs_when_the_gateway_ends_has_its_span(tmp_path, exported):
    with (
        RunningGateway(tmp_path, agents=AGENTS, server={"grace_s": 0}) as gateway,
        gateway.client() as client,
    ):
        create(client, "s", blueprint="patient")
        client.post("/v1/sessions/s/prompt", json={"text": "hello"})
        eventually(lambda: len(gateway.gateway.tracing.turns) == 1)
    (span,) = exported.named("invoke_agent patient")
    assert "error.type" in span.attributes
    assert len(gateway.gateway.tracing.turns) == 0


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01" + "x" * 5000,
        "00-ZZf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(traced, exported, traceparent):
    with traced.client() as client:
        assert client.get("/v1/sessions", headers={"traceparent": traceparent}).status_code == 200
    assert exported.one("GET /v1/sessions").parent is None


def test_two_traceparents_are_none(traced, exported):
    with traced.client() as client:
        headers = [("traceparent", PARENT), ("traceparent", PARENT)]
        assert client.get("/v1/sessions", headers=headers).status_code == 200
    assert exported.one("GET /v1/sessions").parent is None


def test_what_nobody_is_to_see_in_the_log_has_no_span_either(traced, exported):
    with traced.client() as client:
        client.get("/healthz")
        client.get("/v1/nothing")
    assert exported.one("GET").attributes["url.path"] == "/v1/nothing"
    assert len(exported.get_finished_spans()) == 1


def test_the_log_names_the_trace_of_a_request(traced, exported):
    with traced.client() as client:
        client.get("/v1/sessions", headers={"traceparent": PARENT})
    exported.one("GET /v1/sessions")
    assert TRACE in [each["trace_id"] for each in traced.log.lines]


def test_no_name_of_anybodys_is_longer_than_an_attribute_may_be(traced, exported):
    with traced.client() as client:
        client.get(f"/v1/sessions/{'x' * 3000}/stats")
    assert len(exported.one("GET /v1/sessions/{sessionId}/stats").attributes["url.path"]) == 500


PROGRAM = """
import sys
from frontdesk.gateway.tracing.tracing import Tracing

def found():
    print(Tracing.find(text=False, route=str) is not None)

found()
print("opentelemetry" in sys.modules)
import opentelemetry.trace
found()
from opentelemetry.sdk.trace import TracerProvider
opentelemetry.trace.set_tracer_provider(TracerProvider())
found()
"""


def test_there_are_spans_where_an_sdk_was_set_up_and_else_nothing_is_imported():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == ["False", "False", "False", "True"], ran.stderr


def test_who_expects_traces_and_has_set_up_nothing_is_notified(caplog, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert FIND(text=False, route=str) is None
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in caplog.text
    caplog.clear()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert FIND(text=False, route=str) is None
    assert not caplog.text


def test_a_turn_over_a_websocket_has_a_trace_of_its_own_with_a_link(traced, exported):
    with traced.client() as client:
        create(client, "s")
    with connect(f"{traced.ws_url}/v1/sessions/s/ws?api_key={ACME}") as socket:
        socket.send(json.dumps({"action": "prompt", "text": "hello"}))
        turn = exported.one("invoke_agent parrot")
    request = exported.one("GET /v1/sessions/{sessionId}/ws")
    assert turn.parent is None
    assert [link.context.span_id for link in turn.links] == [id_of(request)]
    assert request.attributes["http.response.status_code"] == 101


def test_the_span_of_a_host_that_traces_is_the_parent(traced, exported):
    host = traced.gateway.tracing.requests._tracer

    async def asked():
        with host.start_as_current_span("of the host") as span:
            app = create_app(traced.gateway)
            headers = [(b"x-api-key", ACME.encode()), (b"traceparent", PARENT.encode())]
            answer = await ask(app, "/v1/sessions", headers=headers)
            return answer.status, span.get_span_context().span_id

    status, above = traced.call(asked)
    assert status == 200
    assert exported.one("GET /v1/sessions").parent.span_id == above


def test_an_sdk_that_fails_costs_the_span_and_no_turn(tmp_path, exported, monkeypatch, caplog):
    def falls(*_, **__):
        raise RuntimeError("the SDK is broken")

    with RunningGateway(tmp_path, agents=AGENTS) as gateway, gateway.client() as client:
        create(client, "s")
        monkeypatch.setattr(TurnSpan, "__init__", falls)
        assert turn_of(client, "s", "one")[-1][1] == "agent_end"
        assert turn_of(client, "s", "two")[-1][1] == "agent_end"
    assert caplog.text.count("a trace could not be begun") == 1


def test_in_an_agents_process_spans_belong_to_the_turn_where_it_uses_opentelemetry():
    found = []
    context = traced_context(PARENT)
    context.run(lambda: found.append(get_current_span().get_span_context()))
    assert f"{found[0].trace_id:032x}" == TRACE
    assert f"{found[0].span_id:016x}" == PARENT.split("-")[2]
    assert traced_context(None) is None


@pytest.mark.parametrize("broken", ["", "no trace", f"00-{'0' * 32}-{'0' * 16}-00"])
def test_what_is_no_trace_is_none_in_an_agents_process_either(broken):
    found = []
    traced_context(broken).run(lambda: found.append(get_current_span().get_span_context()))
    assert not found[0].is_valid
