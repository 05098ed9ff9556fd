"""Bounded runs of what can be asked: each raises `Found` where a rule is broken.

A campaign is as good as its seed: the same seed asks the same again, as far as the gateway's own
time allows.
"""

import json
import socket
import struct
from contextlib import contextmanager, suppress

import httpx
import hypothesis
import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test

from blackbox import wire
from blackbox.api_machine import ApiMachine, Operations
from blackbox.expected import Expected
from blackbox.findings import Found, Rule, answers_in, check, statuses_in
from blackbox.framing import frame, frames_in, handshake, until_head


def bounded(examples, **more):
    """Settings of a campaign: it generates, and shrinks nothing, as every try takes its time."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def api(box, *, seed, examples=12, steps=25):
    """Run sequences of the API by two tenants."""
    own = {"box": box, "tenants": box.tenants(2), "operations": Operations(box)}
    machine = hypothesis.seed(seed)(type("Campaign", (ApiMachine,), own))
    run_state_machine_as_test(machine, settings=bounded(examples, stateful_step_count=steps))


# -- raw sockets ----------------------------------------------------------------------------------

LAST = b"GET /last-of-all HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FILLING = b"\r\n" * 20
"""What fills a body that was announced by mistake."""
NO_CLOSES = (1000, 1006, 1011)
"""What no socket may close with here: nobody's session ends, and nothing fails."""
HOW_TO_LEAVE = ("ask on", "ask on", "half close", "close", "reset")
RESET = struct.pack("ii", 1, 0)


class Witness:
    """Sessions of two tenants that are there and get prompts, whatever goes on beside them.

    Beside them one each, `gone`, that has ended by itself: its stream is held, and has an end.
    """

    def __init__(self, box):
        self._box = box
        self.tenants = self.culprit, self.other = box.tenants(2)
        self.expected = Expected(self.tenants)
        for tenant in self.tenants:
            for session_id in ("aim", "talk"):
                body = {"model": "test", "sessionId": session_id, "blueprint": "parrot"}
                self._post(tenant, "/v1/sessions", body)
            assert len(self.expected.live(tenant)) == 2
            body = {"model": "test", "sessionId": "gone", "blueprint": "leaver", "prompt": "go"}
            check(tenant.ask("POST", "/v1/sessions", json=body), "POST /v1/sessions")
            gone = tenant.ask("GET", "/v1/sessions/gone/events")
            assert b"session_end" in gone.body, gone

    def _post(self, tenant, path, body):
        answer = tenant.ask("POST", path, json=body)
        check(answer, f"POST {path}")
        self.expected.saw(tenant, "POST", path, answer)

    def look(self):
        """Hold the gateway to answering both, and to having all that must be there."""
        if not self._box.alive:
            raise Found(Rule.ANSWERED, "the gateway's process is gone")
        try:
            self.expected.check_lists()
        except httpx.HTTPError as error:
            raise Found(Rule.ANSWERED, f"{type(error).__name__}: {error}") from error

    def ask(self):
        """Have both prompted, and look for the ends."""
        for tenant in self.tenants:
            self._post(tenant, "/v1/sessions/talk/prompt", {"text": "still there"})
        self.expected.check_alive()
        self.expected.check_ends()

    def accepted(self, answers):
        """Learn from the answers of a WebSocket of the culprit's session `talk`."""
        talk = self.expected.live(self.culprit)["talk"]
        talk.prompts |= {each["requestId"]: None for each in answers if "requestId" in each}

    def close(self):
        self.expected.delete_all()


@contextmanager
def witnessed(box):
    witness = Witness(box)
    yield witness
    witness.ask()
    witness.close()


def pipelines(box, *, seed, examples=120):
    """Send requests that are right, in every framing and cut anywhere: each has its one answer."""
    with witnessed(box) as witness:
        key, victim = witness.culprit.key, "/v1/sessions/aim"

        @hypothesis.seed(seed)
        @bounded(examples)
        @given(wire.pipelines(key=key, victim=victim), wire.PLACES)
        def run(requests, places):
            sent = b"".join(each.raw for each in requests)
            received = exchange(box, [*wire.cuts(sent, places), LAST], breaks=Rule.ONE_ANSWER)
            hold(requests, answers_in(received), sent=sent)
            witness.look()

        run()


def hold(requests, answers, *, sent):
    """Hold answers to requests: one for each, in order, and of nothing else."""
    marks = [each.mark for each in requests] + [b"last-of-all"]
    for answer in answers:
        check(answer, f"{sent!r:.600}", method="OPTIONS" if not answer.body else "GET")
    wrong = [mark for mark, answer in zip(marks, answers, strict=False) if mark not in answer.body]
    shown = [answer for answer in answers if wire.HIDDEN.encode() in answer.body]
    if len(answers) != len(marks) or wrong or shown:
        seen = [(each.status, each.body[:80]) for each in answers]
        raise Found(Rule.ONE_ANSWER, f"{len(requests)} and a last one: {sent!r}: {seen}")


def spoiled_heads(box, *, seed, examples=150):
    """Send what is nearly a request, and leave in every way: no failure, and nobody is harmed."""
    with witnessed(box) as witness:
        key, victim = witness.culprit.key, "/v1/sessions/none"
        asked = (
            f"GET /v1/sessions/gone/events?since=0 HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n",
            f"POST /v1/sessions/none/prompt HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
            'Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{"text":"x"}',
        )
        whole = st.sampled_from([each.encode() for each in asked])
        piped = wire.pipelines(key=key, victim=victim).map(lambda all_: all_[0].raw)

        @hypothesis.seed(seed)
        @bounded(examples)
        @given(whole | piped, wire.SPOILING, wire.PLACES, st.sampled_from(HOW_TO_LEAVE))
        def run(request, changes, places, leave):
            sent = wire.spoiled(request, changes)
            pieces = wire.cuts(sent, places)
            if leave == "ask on":
                pieces += [FILLING, LAST, LAST]
            received = exchange(box, pieces, leave=leave)
            for status in statuses_in(received):
                if status >= 500 or b"Traceback" in received:
                    raise Found(Rule.NO_FAILURE, f"{sent!r}: {received[:300]!r}")
            witness.look()

        run()


def odd_values(box, *, seed, examples=600):
    """Send requests of a right form with odd values, wherever one may stand."""
    with witnessed(box) as witness:

        @hypothesis.seed(seed)
        @bounded(examples)
        @given(wire.odd_requests(key=witness.culprit.key))
        def run(sent):
            received = exchange(box, [sent, LAST])
            statuses = statuses_in(received)
            if any(status >= 500 for status in statuses) or b"Traceback" in received:
                raise Found(Rule.NO_FAILURE, f"{sent!r}: {received[:300]!r}")
            if not statuses:
                raise Found(Rule.ANSWERED, f"{sent!r} has no answer")
            witness.look()

        run()


def frames(box, *, seed, examples=200):
    """Send messages, right and wrong, on a WebSocket, in frames of every kind and cut anywhere."""
    with witnessed(box) as witness:
        path = "/v1/sessions/talk/ws?types=agent_end,session_end"
        opening = handshake(path, witness.culprit.key)
        closing = frame(0x88, b"")

        @hypothesis.seed(seed)
        @bounded(examples)
        @given(st.lists(wire.messages(), max_size=6), st.just(b"") | wire.WRONG, wire.PLACES)
        def run(messages, wrong, places):
            pieces = wire.cuts(b"".join(messages) + wrong, places)
            with box.connect() as connection:
                connection.sendall(opening)
                head, received = until_head(connection)
                if b" 101 " not in head[:16]:
                    raise Found(Rule.SOCKET, f"the handshake: {head!r}")
                if not wrong:
                    # Whoever closes has no use for further answers, and need not get any.
                    received += answers_of(connection, pieces, received, number=len(messages))
                received = until_closed(connection, pieces if wrong else [closing], received)
            witness.accepted(hold_frames(list(frames_in(received)), sent=pieces))
            witness.look()

        run()


def answers_of(connection, pieces, before, *, number):
    """Send pieces and read until so many messages have an answer."""
    send_all(connection, pieces)
    received = before
    while sum(is_answer(*each) for each in frames_in(received)) < number:
        try:
            chunk = connection.recv(65536)
        except OSError:
            chunk = b""
        received += chunk
        if not chunk or closed_in(received):
            raise Found(Rule.SOCKET, f"{pieces}: {number} messages, and this came: {received!r}")
    return received[len(before) :]


def until_closed(connection, pieces, before):
    """Send pieces and read to the end, answering a close of the server's as clients do.

    A client that does not would wait for as long as the server waits for its answer.
    """
    send_all(connection, pieces)
    received, answered = before, False
    try:
        while chunk := connection.recv(65536):
            received += chunk
            if not answered and closed_in(received):
                answered = True
                send_all(connection, [frame(0x88, b"")])
    except TimeoutError:
        raise Found(Rule.SOCKET, f"{pieces}: nothing more after {received[-200:]!r}") from None
    except ConnectionError:
        pass  # it was closed while there was more to read
    return received


def send_all(connection, pieces):
    """Send pieces, as far as they are taken: a server may close before it has them all."""
    with suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)


def closed_in(received):
    return any(opcode == 8 for opcode, _ in frames_in(received))


def is_answer(opcode, payload):
    return opcode == 1 and "event" not in json.loads(payload)


def hold_frames(received, *, sent):
    """Hold what a server sent to JSON and a close that is no failure; return the answers in it."""
    texts = [json.loads(payload) for opcode, payload in received if opcode == 1]
    answers = [message for message in texts if "event" not in message]
    for message in answers:
        right = message.get("status") or (message.get("error") and message.get("message"))
        if not right or message.get("error") == "internal":
            raise Found(Rule.SOCKET, f"{sent}: {message}")
    codes = [int.from_bytes(payload[:2], "big") for opcode, payload in received if opcode == 8]
    if len(codes) != 1 or codes[0] in NO_CLOSES:
        raise Found(Rule.SOCKET, f"{sent}: closed with {codes}, after {received[-3:]}")
    return answers


# -- of connections -------------------------------------------------------------------------------


def exchange(box, pieces, *, leave="ask on", breaks=Rule.ANSWERED):
    """Send pieces on one connection, and return all that comes until it ends."""
    with box.connect() as connection:
        if leave in ("close", "reset"):
            send_all(connection, pieces)
            if leave == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return b""
        return rest_of(connection, pieces, half_close=leave == "half close", breaks=breaks)


def rest_of(connection, pieces, *, half_close=False, breaks=Rule.ANSWERED):
    received = b""
    send_all(connection, pieces)
    if half_close:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except TimeoutError:
        raise Found(breaks, f"nothing more comes after {received[-200:]!r}") from None
    except ConnectionError:
        pass  # a refusal, and more was sent
    return received
