"""The events of the log: the list is whole, a line each, and what the lines say."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

import frontdesk
from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.clock import SystemClock
from frontdesk.cluster.membership import Membership
from frontdesk.cluster.node_records import NO_HOOKS
from frontdesk.cluster.records import SCHEMA, NodeRecord, NodeState, NodeStatus
from frontdesk.cluster.terms import LeaseTerms
from frontdesk.gateway.log_events import (
    DESCRIPTIONS,
    FIRST_FIELDS,
    LogEvent,
    log_event,
    log_operator_action,
)
from frontdesk.gateway.log_lines import LineFormatter, as_json
from frontdesk.gateway.logs import configure_logs
from frontdesk.gateway.settings import LogSettings
from gateway.running import RunningGateway, create, turn_of
from support.waiting import eventually

SOURCES = Path(frontdesk.__file__).parent
HOSTILE = (
    '", "level": "error", "forged": "',
    "two\nlines\r\nof {}",
    "\x1b[2J\x1b[31mred",
    "half a \ud800 character",
    "\u2028\u202e\x85\x00",
    "%s %d {0}",
    "x" * 100_000,
)


@pytest.fixture
def written():
    """What the log writes as JSON; a callable that reads its lines."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(LogSettings(format="json"), to=stream, node="n1")
    yield lambda **wanted: [
        line
        for line in map(json.loads, stream.getvalue().splitlines())
        if wanted.items() <= line.items()
    ]
    root.handlers[:], _ = before[0], root.setLevel(before[1])


def test_every_event_of_the_log_is_described():
    assert set(DESCRIPTIONS) == set(LogEvent)


def test_every_event_that_a_module_names_by_its_word_is_of_the_list_with_its_facts():
    named = {}
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict):
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                if keys[:1] == ["event"] and isinstance(node.values[0], ast.Constant):
                    named.setdefault(node.values[0].value, set()).update(keys[1:])
    assert {"turn_failed", "node_changed", "engine_changed"} <= named.keys()
    for word, facts in named.items():
        assert facts <= {*DESCRIPTIONS[LogEvent(word)].fields, *FIRST_FIELDS}, word


def test_what_an_operator_did_is_one_line_with_key_target_and_result(written):
    log_operator_action(key_id="ops", action="stop", target="acme/s1", result="stopping")
    (line,) = written()
    del line["ts"]
    assert line == {
        "level": "info",
        "event": "operator_action",
        "node": "n1",
        "key_id": "ops",
        "action": "stop",
        "target": "acme/s1",
        "result": "stopping",
    }


def test_hosts_with_logging_of_their_own_see_an_event_as_a_text(caplog):
    caplog.set_level("INFO", logger="frontdesk.events")
    log_operator_action(key_id="ops", action="stop", target="acme/s\n1", result="stopping")
    (record,) = caplog.records
    assert (record.event, record.key_id, record.target) == ("operator_action", "ops", "acme/s\n1")
    assert record.getMessage() == (
        r"operator_action key_id='ops' action='stop' target='acme/s\n1' result='stopping'"
    )


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_event_is_one_line_whatever_ids_and_names_are_in_it(hostile, form):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        requests = configure_logs(LogSettings(format=form), to=stream)
        log_event(LogEvent.SESSION_STARTED, tenant=hostile, session_id=hostile, model=hostile)
        log_operator_action(key_id=hostile, action="stop", target=hostile, result="done")
        logging.getLogger("frontdesk.x").info("plain", extra={"several": {hostile: [hostile]}})
        requests.info("request", path=hostile, session_id=hostile)
    finally:
        root.handlers[:], _ = before[0], root.setLevel(before[1])
    lines = stream.getvalue().split("\n")
    assert len(lines) == 5
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    assert len(stream.getvalue()) < 100_000
    if form == "json":
        assert [json.loads(line)["event"] for line in lines] == [
            "session_started",
            "operator_action",
            "message",
            "request",
        ]
        assert not any("forged" in json.loads(line) for line in lines)


def test_words_of_several_lines_begin_no_line_of_their_own_on_a_terminal():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure_logs(LogSettings(format="console"), to=stream)
        logging.getLogger("frontdesk.x").warning("session %s", "a\n2026-01-01 [info] forged")
    finally:
        root.handlers[:], _ = before[0], root.setLevel(before[1])
    _, second, _ = stream.getvalue().split("\n")
    assert second.startswith("    2026-01-01 [info] forged")


def test_a_line_begins_with_the_same_fields_in_the_same_order(written):
    logging.getLogger("frontdesk.x").error(
        "it failed", extra={"request_id": "r", "session_id": "s", "other": 1, "tenant": "t"}
    )
    (line,) = written()
    first = [name for name in FIRST_FIELDS if name != "trace_id"]
    assert list(line) == [*first, "message", "logger", "other"]
    assert (line["event"], line["message"]) == ("message", "it failed")


def test_a_value_that_cannot_be_shown_costs_its_own_place_and_not_the_line():
    class Falls:
        def __repr__(self):
            raise RuntimeError("no")

    deep = []
    for _ in range(2000):
        deep = [deep]
    record = logging.makeLogRecord({"msg": "odd %d", "args": ("no number",), "level": "INFO"})
    record.one, record.deep, record.nan = Falls(), deep, float("nan")
    line = json.loads(LineFormatter(as_json).format(record))
    assert line["one"] == "<Falls>"
    assert line["nan"] is None
    assert "arguments do not fit" in line["message"]


@blueprint("falls")
async def falls(turn: Turn):
    """Fail in every turn, with a text that is the user's."""
    raise RuntimeError(f"it fails with {turn.text}")
    yield ""


@blueprint("crashes", errors_end="session")
async def crashes(turn: Turn):
    """End the session by an error whose text is the user's."""
    raise RuntimeError(f"it fails with {turn.text}")
    yield ""


def test_every_start_and_end_of_a_session_is_a_line_with_its_reason_and_log_id(tmp_path, written):
    agents = Blueprints([falls, crashes])
    with RunningGateway(tmp_path, agents=agents) as gateway, gateway.client() as client:
        create(client, "s", blueprint="falls")
        turn_of(client, "s", "hello")
        assert client.delete("/v1/sessions/s").is_success
        (end,) = eventually(lambda: written(event="session_ended"))
        create(client, "c", blueprint="crashes")
        turn_of(client, "c", "my pin is 4711")
        (crash,) = eventually(lambda: written(event="session_ended", session_id="c"))
        ids = {each["sessionId"]: each["logId"] for each in client.get("/v1/ends").json()["ends"]}
    start, _ = written(event="session_started")
    assert (start["tenant"], start["session_id"], start["blueprint"]) == ("acme", "s", "falls")
    assert start["key_id"] == "k-acme"
    assert (end["tenant"], end["session_id"], end["reason"]) == ("acme", "s", "deleted")
    assert (end["level"], end["turns"]) == ("info", 1)
    assert (crash["level"], crash["reason"]) == ("warning", "crashed: RuntimeError")
    assert {"s": end["log_id"], "c": crash["log_id"]} == ids
    assert "4711" not in str(crash)
    (failed,) = written(event="turn_failed")
    assert (failed["session_id"], failed["level"]) == ("s", "error")
    assert failed["request_id"].startswith("req_")


def test_another_state_of_a_node_is_a_line(written):
    def status(name, state, *, draining=False):
        record = NodeRecord(f"i-{name}", name, "unix:/x", SCHEMA, "1", "digest")
        return NodeStatus(record, state, 1.0, 0, draining)

    node = Membership(
        name="n1",
        address="unix:/x",
        config_digest="digest",
        terms=LeaseTerms(),
        clock=SystemClock(),
        hooks=NO_HOOKS,
    )
    alive, suspect = status("n1", NodeState.ALIVE), status("n2", NodeState.SUSPECT)
    node.nodes = [alive, status("n2", NodeState.ALIVE)]
    node.nodes = [alive, status("n2", NodeState.ALIVE, draining=True)]
    node.nodes = [alive, suspect]
    node.nodes = [alive, suspect]
    node.nodes = [alive]
    lines = written(event="node_changed")
    assert [(each["which"], each["state"], each["level"]) for each in lines] == [
        ("n1", "alive", "info"),
        ("n2", "alive", "info"),
        ("n2", "draining", "info"),
        ("n2", "suspect", "warning"),
        ("n2", "gone", "info"),
    ]
