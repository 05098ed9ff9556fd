"""JSON that one caller sends: whatever it is, the loop is not busy with it for long."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect

from frontdesk.agents.values import MAX_VALUES, json_value, values_in
from gateway.loop_time import LONGEST_TURN_S, LongestTurn
from gateway.running import ACME, create
from gateway.test_callbacks import answering, failure, tool_server

MEBIBYTE = 1024 * 1024


def many(unit, opening="[", closing="]"):
    """Return as much JSON of one kind as a body has room for."""
    times = (MEBIBYTE - 400) // (len(unit) + 1)
    return opening + ",".join([unit] * times) + closing


DOCUMENTS = {
    "lists": many("[]"),
    "objects": many("{}"),
    "nested-lists": many("[[[[[[]]]]]]"),
    "numbers": many("1"),
    "long-numbers": many("9" * 4000),
    "one-number": "9" * (MEBIBYTE - 400),
    "fractions": many("1.5e10"),
    "texts": many('"a"'),
    "names": "{" + ",".join(f'"{n}":1' for n in range(90_000)) + "}",
    "one-name": many('"a":1', "{", "}"),
    "deep": "[" * 400_000 + "]" * 400_000,
    "deep-and-open": "[" * 1_000_000,
    "escapes": '"' + "\\u0041" * 170_000 + '"',
    "halves": '"' + "\\ud83d" * 170_000 + '"',
    "commas": '"' + ",[{" * 300_000 + '"',
    "quotes": '"' + '\\"' * 500_000 + '"',
    "backslashes": '"' + "\\\\" * 500_000 + '"',
}


@pytest.fixture(scope="module")
def session(gateway):
    with gateway.client() as client:
        create(client, "json", blueprint="curious")
    return "/v1/sessions/json"


def sent(gateway, client, path, body):
    """Send a body; return the answer, once the loop has been watched meanwhile."""
    headers = {"Content-Type": "application/json"}
    with LongestTurn(gateway) as turn:
        answer = client.post(path, content=body.encode(), headers=headers, timeout=60)
    assert answer.status_code in (201, 202, 400, 404, 409, 413, 422), answer.text[:200]
    assert turn.longest_s < LONGEST_TURN_S
    return answer


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/respond", '{"ref":"x","response":%s}'),
        ("/prompt", '{"text":"x","somethingElse":%s}'),
        ("/prompt", '{"text":%s}'),
        ("/prompt", "%s"),
        ("/tools", '{"name":"t","description":"","callbackUrl":"http://x/","parameters":{"a":%s}}'),
        ("", '{"model":"test","blueprint":"parrot","providerOpts":{"a":%s}}'),
        ("", '{"model":"test","tools":%s}'),
    ],
)
def test_a_body_of_any_json_keeps_nobody_waiting(gateway, acme, session, document, path, body):
    where = session + path if path else "/v1/sessions"
    answer = sent(gateway, acme, where, body % DOCUMENTS[document])
    if answer.status_code == 201:
        acme.delete(f"/v1/sessions/{answer.json()['sessionId']}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_websocket_message_of_any_json_keeps_nobody_waiting(gateway, session, document):
    headers = {"X-API-Key": ACME}
    with connect(
        gateway.ws_url + f"{session}/ws", additional_headers=headers, max_size=None
    ) as socket:
        for message in ('{"action":"respond","ref":"x","response":%s}', '{"a":%s}', "%s"):
            with LongestTurn(gateway) as turn:
                socket.send(message % DOCUMENTS[document])
                answer = json.loads(socket.recv(timeout=60))
            assert "error" in answer
            assert turn.longest_s < LONGEST_TURN_S


def test_what_has_too_many_values_is_refused_with_their_limit(gateway, acme, session):
    answer = sent(gateway, acme, f"{session}/respond", f'{{"ref":"x","response":{many("1")}}}')
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "too_large",
        "message": f"the body is over the limit of {MAX_VALUES} values",
    }
    fine = json.dumps({"ref": "x", "response": [0] * (MAX_VALUES - 10)})
    assert sent(gateway, acme, f"{session}/respond", fine).json()["message"].startswith("ref 'x'")


@pytest.mark.parametrize("text", [",[{", '",', '"', "\\", '\\",', "[\\"])
def test_a_text_is_one_value_whatever_is_in_it(gateway, acme, session, text):
    body = json.dumps({"text": (text * 100_000)[:190_000]})
    assert sent(gateway, acme, f"{session}/steer", body).status_code in (202, 409)


def test_a_callback_tools_answer_of_too_many_values_is_a_failure_that_says_so():
    with tool_server(answering(body=b'{"result": %s}' % many("[]").encode())) as server:
        problem = failure(server, answer_bytes=2 * MEBIBYTE)
    assert problem == f"its answer has more than {MAX_VALUES} values"


# -- counting ------------------------------------------------------------------------------------

TEXT = st.text(st.sampled_from('ab,[]{}:"\\/ \n\u00e9'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=40,
)


def counted(value):
    """Return how many values there are, and how many of them are empty lists and objects."""
    members = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(members, list):
        return 1, 0
    inner = [counted(each) for each in members]
    return 1 + sum(each for each, _ in inner), sum(each for _, each in inner) + (not members)


@given(VALUES, st.booleans(), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_values_are_counted_without_reading_them(value, ascii_only, separators):
    document = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    values, empty = counted(value)
    # An empty list looks like one with a value in it. What is in texts is not counted.
    assert values <= values_in(document, enough=values + empty) <= values + empty
    assert values <= values_in(document)


@pytest.mark.parametrize(
    "value",
    [[[]] * 30_000, {str(n): n for n in range(30_000)}, ["\ud83d"] * 30_000, [[[1] * 200] * 200]],
)
def test_of_too_many_values_of_an_agents_it_is_said_that_they_are_many(value):
    assert json_value(value) == f"<more than {MAX_VALUES} values>"
    assert json_value({"a": "x" * 100_000 + ",[{" * 100_000})["a"].endswith(",[{")
