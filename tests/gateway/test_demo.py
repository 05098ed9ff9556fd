"""The demonstration that a development run opens, by a real gateway: each thing that it does."""

import re
from pathlib import Path

import pytest

from frontdesk.agents import Blueprints
from frontdesk.agents import demo as demonstration
from frontdesk.cli.dev import with_demo
from frontdesk.gateway.settings import Config
from gateway.running import RunningGateway, create, events, turn_of, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for pace in ("WORD_S", "TOOL_S"):
            patch.setattr(demonstration, pace, 0)
        opened = Blueprints([demonstration.demo])
        with RunningGateway(tmp_path_factory.mktemp("state"), agents=opened) as running:
            yield running


@pytest.fixture
def client(running, request):
    with running.client() as client:
        client.session = re.sub(r"\W", "-", request.node.name)[:100]
        create(client, client.session, blueprint="demo", model="demo")
        yield client


def said(turn):
    return "".join(data["delta"] for _, name, data in turn if name == "message_delta")


def names(turn):
    return [name for _, name, _ in turn]


def test_a_first_prompt_is_answered_with_a_thought_a_tool_sentences_and_what_it_can_do(client):
    turn = turn_of(client, client.session, "Who is in the building?")
    assert names(turn)[-1] == "agent_end"
    assert {"thinking_delta", "tool_execution_start", "tool_execution_end"} <= set(names(turn))
    words = set(said(turn).replace(",", " ").replace(".", " ").split())
    assert demonstration.ABILITIES.keys() - {"greet"} <= words
    assert len([name for name in names(turn) if name == "message_delta"]) > 40
    assert client.get(f"/v1/sessions/{client.session}").json()["totalTokens"] > 0


def test_later_it_says_back_what_it_was_told(client):
    turn_of(client, client.session, "tool")
    client.post(f"/v1/sessions/{client.session}/prompt", json={"text": "<b>two  spaces</b>"})
    with events(client, client.session, since="0") as stream:
        until(stream, "agent_end")
        assert said(until(stream, "agent_end")) == "You said: <b>two  spaces</b> "


def test_what_it_says_back_is_bounded():
    assert len(demonstration.shortened("x" * 1_000_000)) < 3_000


def test_words_that_only_contain_one_of_its_words_are_not_told_to_it(client):
    turn_of(client, client.session, "hello")
    client.post(
        f"/v1/sessions/{client.session}/prompt", json={"text": "A task: thinking along a stool"}
    )
    with events(client, client.session, since="0") as stream:
        until(stream, "agent_end")
        assert set(names(until(stream, "agent_end"))).isdisjoint(
            {"ask_user", "thinking_delta", "tool_execution_start"}
        )


@pytest.mark.parametrize(
    ("verb", "says"), [("approve", "Everybody is awake"), ("reject", "I leave the bell alone")]
)
def test_it_asks_an_approval_and_goes_by_the_answer(client, verb, says):
    path = f"/v1/sessions/{client.session}"
    client.post(f"{path}/prompt", json={"text": "Please approve"})
    with events(client, client.session, since="0") as stream:
        *_, asked = until(stream, "approval_required")
        assert asked[2]["toolName"] == "ring_the_bell"
        answer = client.post(f"{path}/{verb}", json={"approvalId": asked[2]["approvalId"]})
        assert answer.status_code == 200, answer.text
        assert says in said(until(stream, "agent_end"))


def test_it_asks_a_question_and_uses_the_answer(client):
    path = f"/v1/sessions/{client.session}"
    client.post(f"{path}/prompt", json={"text": "ask"})
    with events(client, client.session, since="0") as stream:
        *_, asked = until(stream, "ask_user")
        answer = client.post(f"{path}/respond", json={"ref": asked[2]["ref"], "response": "Ada"})
        assert answer.status_code == 200, answer.text
        assert "I shall announce Ada." in said(until(stream, "agent_end"))


def test_a_crash_ends_its_session_with_the_reason(client):
    client.post(f"/v1/sessions/{client.session}/prompt", json={"text": "crash"})
    with events(client, client.session, since="0") as stream:
        *_, end = until(stream, "session_end")
    assert end[2]["reason"].startswith("crashed")
    assert client.get(f"/v1/sessions/{client.session}").status_code == 404


def test_bye_ends_its_session_as_normal(client):
    client.post(f"/v1/sessions/{client.session}/prompt", json={"text": "bye"})
    with events(client, client.session, since="0") as stream:
        *_, end = until(stream, "session_end")
    assert end[2]["reason"] == "normal"


def test_it_is_silent_until_it_is_aborted(client):
    path = f"/v1/sessions/{client.session}"
    client.post(f"{path}/prompt", json={"text": "wait"})
    with events(client, client.session, since="0") as stream:
        until(stream, "message_delta")
        client.post(f"{path}/abort", json={})
        until(stream, "agent_abort")


def test_it_speaks_at_length_and_hears_what_is_added_meanwhile(client, monkeypatch):
    monkeypatch.setattr(demonstration, "WORD_S", 0.001)
    path = f"/v1/sessions/{client.session}"
    client.post(f"{path}/prompt", json={"text": "long"})
    with events(client, client.session, since="0") as stream:
        until(stream, "message_delta")
        client.post(f"{path}/steer", json={"text": "and a chair"})
        text = said(until(stream, "agent_end"))
    assert text.count("A front desk knows") in (5, 6)
    assert "And you added: and a chair" in text


def test_a_development_run_opens_it_first_where_the_operator_opens_nothing():
    own = Config.model_validate({"blueprints": {"a": {"kind": "python", "target": "a:b"}}})
    assert list(with_demo(own).blueprints) == ["a"]
    opened = with_demo(Config())
    assert list(opened.blueprints)[:2] == ["demo", "assistant"]
    assert opened.default_blueprint is None


def test_without_the_packages_of_what_comes_built_in_it_is_open_alone(monkeypatch):
    monkeypatch.setattr("frontdesk.cli.dev.find_spec", lambda name: None)
    assert list(with_demo(Config()).blueprints) == ["demo"]


def test_the_page_on_running_the_gateway_names_each_of_its_words():
    page = (Path(__file__).parents[2] / "docs/how-to/run-the-gateway.md").read_text()
    words = set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE))
    assert words == (demonstration.ABILITIES.keys() - {"greet"}) | {"tour"}
