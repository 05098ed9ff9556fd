"""Guardrails of a running gateway: whatever one tenant's texts are, the others do not wait."""

import asyncio
import json
import random

import pytest

from frontdesk.sessions.hooks import MAX_TEXTS, refusal_in_pieces, refusal_of
from gateway.loop_time import LONGEST_TURN_S, LongestTurn
from gateway.running import RunningGateway, create, turn_of
from support.waiting import eventually

RULES = {
    "denied_words": ["secret", "top secret", "straße"],
    "denied_patterns": [r"(\w+\s?)+!", r"[a-z0-9.]+@[a-z0-9.]+\.[a-z]+", r"(a+)+$x", "q.{1000}z"],
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with RunningGateway(tmp_path_factory.mktemp("state"), guardrails=RULES) as running:
        yield running


SOME = random.Random(3)
TEXTS = {
    "letters": "a" * 20_000,
    "many-letters": "a" * 199_000,
    "words": "word " * 39_000,
    "accents": "é" * 199_000,
    "syllables": "한" * 199_000,
    # What the engine has no shortcut for.
    "worst": "".join(SOME.choices("qwertyuiop ", k=199_000)),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("verb", ["prompt", "steer"])
def test_a_text_of_any_kind_keeps_nobody_waiting(guarded, name, verb, sid):
    with guarded.client() as acme:
        create(acme, sid)
        with LongestTurn(guarded) as turn:
            body = {"text": TEXTS[name]}
            status = acme.post(f"/v1/sessions/{sid}/{verb}", json=body, timeout=60).status_code
            # The agent says it again: it goes out by the same filters.
            eventually(lambda: acme.get(f"/v1/sessions/{sid}/status").json()["state"] == "idle")
        assert status in (202, 422) if name == "worst" else status == 202
        assert turn.longest_s < LONGEST_TURN_S


def test_a_value_of_many_texts_is_looked_at_in_pieces_or_refused(guarded, sid):
    texts = [f"text {number}" for number in range(19_000)]
    with guarded.client() as acme:
        create(acme, sid, blueprint="curious")
        for response in (texts, dict.fromkeys(texts[:9_000], "a"), texts[:MAX_TEXTS]):
            body = json.dumps({"ref": "x", "response": response})
            headers = {"Content-Type": "application/json"}
            with LongestTurn(guarded) as turn:
                answer = acme.post(f"/v1/sessions/{sid}/respond", content=body, headers=headers)
            assert answer.status_code == (422 if len(response) > MAX_TEXTS else 400)
            assert turn.longest_s < LONGEST_TURN_S


def asked(value):
    """Return what a filter is asked about, and what it answers in one go and in pieces."""
    seen = []

    def refuse(tenant_id, text):
        seen.append(text)
        return "no" if text == "bad" else None

    whole = refusal_of(refuse, "t", value)
    assert asyncio.run(refusal_in_pieces(refuse, "t", value)) == whole
    return seen, whole


@pytest.mark.parametrize(
    "value",
    ["bad", ["a", ["bad"]], {"bad": 1}, {"a": {"b": ("bad",)}}, [["a"] * 9_000, "bad"]],
)
def test_a_text_anywhere_in_a_value_is_found(value):
    assert asked(value)[1] == "no"


def test_each_text_of_a_value_is_looked_at_once():
    seen, refused = asked([{"name": "x", "size": 1}] * 5_000)
    assert refused is None
    assert sorted(seen) == ["name", "name", "size", "size", "x", "x"]


def test_a_turn_says_what_it_says_in_any_script(guarded, sid):
    with guarded.client() as acme:
        create(acme, sid)
        events = turn_of(acme, sid, "한글 und Straßen, é")
        said = "".join(data["delta"] for _, name, data in events if name == "message_delta")
        assert said.strip() == "한글 und Straßen, é"
