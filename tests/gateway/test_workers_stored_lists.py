"""Sessions that outlive their agents, with several workers: lists, erasing, repetitions."""

import re

import pytest

from gateway.command import CONFIG, frontdesk
from gateway.running import create
from gateway.worker_processes import WITHIN_S, workers
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STORED = (
    CONFIG
    + """
[blueprints.leaver]
kind = "python"
target = "gateway.agents:leaver"
"""
)


def listed(client, **query):
    """Return the ids of a list, two a page."""
    found, query = [], {"limit": 2, **query}
    while True:
        answer = client.get("/v1/sessions", params=query)
        assert answer.status_code == 200, answer.text
        assert not answer.json()["partial"]
        found += [each["sessionId"] for each in answer.json()["sessions"]]
        if answer.json()["next"] is None:
            return found
        query["after"] = answer.json()["next"]


def test_every_worker_lists_and_erases_what_any_has_stored(tmp_path):
    with (
        workers(tmp_path, 2, config=STORED) as service,
        service.client_of(1) as first,
        service.client_of(2) as second,
    ):
        both = (first, second)
        names = [f"s-{number}" for number in range(6)]
        for number, name in enumerate(names):
            create(both[number % 2], name, label="odd" if number % 2 else "even")
        create(first, "short", ephemeral=True)
        for client, name in ((second, "s-0"), (first, "s-1"), (first, "s-2")):
            assert client.post(f"/v1/sessions/{name}/close").json()["live"] is False
        for client in both:
            assert listed(client) == [*names, "short"]
            assert listed(client, label="odd") == names[1::2]
            assert listed(client, state="working") == []
            assert [each["live"] for each in client.get("/v1/sessions").json()["sessions"]] == [
                False,
                False,
                False,
                True,
                True,
                True,
                True,
            ]

        headers = {"Idempotency-Key": "once"}
        answers = [
            client.post("/v1/sessions/s-3/prompt", json={"text": "hello"}, headers=headers)
            for client in both
        ]
        assert answers[0].status_code == 202
        assert answers[0].content == answers[1].content

        create(first, "over", blueprint="leaver", prompt="leave")
        for client in both:
            path = "/v1/sessions/over"
            eventually(
                lambda c=client: c.get("/v1/sessions/over").status_code == 404, within_s=WITHIN_S
            )
            assert client.get(path).json()["error"] == "session_dead"
            assert "over" in listed(client, kept="true")
        for client, name in ((second, "over"), (second, "s-0"), (first, "s-3"), (second, "s-4")):
            assert client.delete(f"/v1/sessions/{name}").status_code == 200
        for client in both:
            assert listed(client, kept="true") == ["s-1", "s-2", "s-5", "short"]
            for name in ("over", "s-0", "s-3"):
                never = client.get("/v1/sessions/never").text
                assert client.get(f"/v1/sessions/{name}").text == never.replace("never", name)
        made = frontdesk(
            tmp_path, "keys", "create", "--operator", "--state-dir", str(tmp_path / "state")
        )
        secret = re.search(r"^secret\s+(\S+)$", made.stdout, re.MULTILINE)[1]
        with service.server.client(secret) as operator:
            eventually(lambda: operator.get("/ops/status").status_code == 200, within_s=WITHIN_S)
            erased = operator.delete("/ops/tenants/acme/conversations")
            assert erased.status_code == 200, erased.text
        for client in both:
            assert listed(client, kept="true") == []
