"""The engine cannot be reached for a whole minute, with leases as long as they really are.

Gateways apart lose Valkey, workers the supervisor that stands still: at once, as a minute is long.
"""

import signal
import time

import pytest

from cluster.faults.desks import ANSWER_S, IN_PROCESSES, gateways, timed, workers
from cluster.faults.engines import VALKEY_9, Front, running
from cluster.faults.streams import Following
from frontdesk.cluster.node import CREATE_S
from frontdesk.cluster.terms import LEASE_TERMS
from support.cluster_nodes import PATIENCE_S
from support.waiting import create_when_known, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MINUTE_S = 60
SESSIONS = 6
STOPPED_S = LEASE_TERMS.lease_s + LEASE_TERMS.isolation_grace_s + LEASE_TERMS.kill_grace_s
"""By then what a caller named is stopped; its owner's lease ran out a third of that before."""


class Service:
    """A service that loses its engine, and what must not change for those who use it.

    `places` are the gateways that are asked, None for any of a service's workers.
    """

    def __init__(self, desk, places):
        self.desk, self.places = desk, places
        made = [(place, blueprint) for place in places for blueprint in ("fenced", "isolated")]
        self.fences = {}
        for place, blueprint in made * (SESSIONS // len(made)):
            session = desk.minted(blueprint=blueprint, at=place)
            self.fences[session] = self.said_by(session, places[0])
        self.busy = desk.minted(blueprint="patient", at=places[0])
        desk.prompt(self.busy, "work through it")
        self.followed = Following(desk, self.busy, places[-1], since="0")
        self.named = desk.create("named", at=places[0])["sessionId"]
        self.turns, self.refused_after_s = 1, []
        # Each place has heard of all sessions: whose they are is known.
        self.goes_on()

    @property
    def minted(self):
        return sorted([*self.fences, self.busy])

    def said_by(self, session, place):
        """Have a turn of a session run; return what its agent says, which is its fence."""
        path, body = f"/v1/sessions/{session}/prompt", {"text": "Your fence?", "wait": PATIENCE_S}
        answer = self.desk.ask("POST", path, json=body, at=place)
        assert answer.status_code == 200, answer.text
        return answer.json()["text"]

    def goes_on(self):
        """See that every session is found from everywhere, and answers with the agent that it had.

        One engine may not empty every balancer, either.
        """
        for place in self.places:
            answers = [self.desk.get(session, at=place) for session in self.minted]
            assert {each.status_code for each in answers} == {200}, answers[0].text
            assert self.desk.ask("GET", "/readyz", at=place).status_code == 200
        for session, fence in self.fences.items():
            assert self.said_by(session, self.places[self.turns % len(self.places)]) == fence
            self.turns += 1
        assert self.followed.ended_at is None, "the stream goes on"

    def refuses_creates(self):
        """See that a create is refused, soon, and says when to try again."""
        for place in self.places:
            for named in ({}, {"sessionId": "another"}):
                body = {"model": "test", "blueprint": "fenced", **named}
                answer, took = timed(
                    lambda place=place, body=body: self.desk.ask(
                        "POST", "/v1/sessions", json=body, at=place
                    )
                )
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                assert took < ANSWER_S
                self.refused_after_s.append(took)

    def is_whole(self):
        """See that everything is as it was, and that sessions are opened again."""
        for place in self.places:
            eventually(
                lambda place=place: sorted(self.desk.listed(at=place)) == self.minted,
                within_s=PATIENCE_S,
            )
        self.goes_on()
        self.desk.ask("POST", f"/v1/sessions/{self.busy}/steer", json={"text": "go"})
        eventually(lambda: self.followed.events[-1][1] == "agent_end", within_s=PATIENCE_S)
        # The id whose agent was stopped is free again.
        create_when_known(self.desk.ask, "named", within_s=PATIENCE_S)
        assert self.desk.ask("DELETE", "/v1/sessions/named").status_code == 200


def test_a_minute_without_an_engine_ends_no_agent_under_a_minted_id_and_fails_no_request(tmp_path):
    with (
        running(VALKEY_9) as engine,
        Front(engine) as front,
        gateways(
            tmp_path / "apart",
            engine,
            url=engine.url_at(front.address),
            more=[IN_PROCESSES] * 2,
            terms="",
        ) as apart,
        workers(tmp_path / "together", 2, more=IN_PROCESSES) as together,
    ):
        services = [Service(apart, (0, 1)), Service(together, (None,))]
        front.cut()
        together.servers[0].signal(signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() < began + MINUTE_S:
            for service in services:
                asked = time.monotonic() - began
                found = service.desk.get(service.named, at=service.places[0]).status_code
                # What a caller named somebody else might start, once its node is held to be dead.
                assert found == 200 or asked > LEASE_TERMS.lease_s
                assert found != 200 or asked < STOPPED_S + ANSWER_S
                service.goes_on()
                service.refuses_creates()
        front.heal()
        together.servers[0].signal(signal.SIGCONT)
        for service in services:
            service.is_whole()
            assert min(service.refused_after_s) < CREATE_S + 0.5
