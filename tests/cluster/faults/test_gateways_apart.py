"""Two gateways with faults between them and the engine, and between each other."""

import time

import httpx
import pytest

from cluster.faults.desks import ANSWER_S, LEASE_S, gateways, timed
from cluster.faults.engines import VALKEY_9, Front, running
from support.cluster_nodes import PATIENCE_S
from support.engines import free_port
from support.fault_proxy import FaultProxy, Way
from support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OWNER, BETWEEN = 0, 1
WORDS = 100


@pytest.fixture
def engine():
    """Valkey."""
    with running(VALKEY_9) as engine:
        yield engine


@pytest.fixture
def front(engine):
    """What stands between the gateways and the engine."""
    with Front(engine) as front:
        yield front


@pytest.fixture
def desk(tmp_path, engine, front):
    """Two gateways that reach the engine through `front`."""
    with gateways(tmp_path, engine, url=engine.url_at(front.address)) as desk:
        yield desk


@pytest.fixture
def hop():
    """What stands between the second gateway and the first one's private listener."""
    with FaultProxy(f"tcp:127.0.0.1:{free_port()}") as hop:
        yield hop


@pytest.fixture
def apart(tmp_path, engine, hop):
    """Two gateways, of which the second reaches the first through `hop`."""
    place = hop.target.removeprefix("tcp:")
    ways = [f'listen = "{place}"\nadvertise = "127.0.0.1:{hop.port}"\n', ""]
    with gateways(tmp_path, engine, more=ways) as desk:
        desk.create("s", at=OWNER)
        assert desk.get("s", at=BETWEEN).status_code == 200
        yield desk


def test_while_the_engine_is_gone_no_request_for_a_live_session_fails(desk, front):
    sessions = [desk.minted(at=at) for at in (0, 1) for _ in range(5)]
    for at in (0, 1):
        assert [desk.get(session, at=at).status_code for session in sessions] == [200] * 10
    front.refuse()
    until = time.monotonic() + LEASE_S * 5
    while time.monotonic() < until:
        for at in (0, 1):
            answers = [desk.get(session, at=at) for session in sessions]
            assert [each.status_code for each in answers] == [200] * 10, answers[0].text
            turn = desk.prompt(sessions[0], "hello", at=at)
            assert turn.status_code == 202, turn.text
            # One engine may not empty every balancer; a create says when to try again.
            assert desk.ask("GET", "/readyz", at=at).status_code == 200
    body = {"model": "t", "blueprint": "parrot"}
    refused, took = timed(lambda: desk.ask("POST", "/v1/sessions", at=0, json=body))
    assert took < ANSWER_S
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    front.heal()
    eventually(lambda: sorted(desk.listed(at=0)) == sorted(sessions), within_s=PATIENCE_S)
    eventually(lambda: sorted(desk.listed(at=1)) == sorted(sessions), within_s=PATIENCE_S)
    eventually(
        lambda: desk.ask("POST", "/v1/sessions", at=1, json=body).status_code == 201,
        within_s=PATIENCE_S,
    )


def test_an_engine_that_was_wiped_under_two_gateways_loses_no_session(desk, engine):
    sessions = [desk.minted(at=at) for at in (0, 1) for _ in range(10)]
    for at in (0, 1):
        assert desk.get(sessions[at * 10], at=1 - at).status_code == 200
    engine.command("FLUSHALL")
    for at in (0, 1):
        statuses = {desk.get(session, at=at).status_code for session in sessions}
        assert statuses <= {200, 503}, "unknown for a while, and never gone"
    for at in (0, 1):
        eventually(
            lambda at=at: all(desk.get(each, at=at).status_code == 200 for each in sessions),
            within_s=PATIENCE_S,
        )
        # It may be a part at first, and then says so.
        eventually(lambda at=at: whole_list(desk, at=at) is not None, within_s=PATIENCE_S)
        assert whole_list(desk, at=at) == sorted(sessions)


def whole_list(desk, *, at):
    """Return the ids of a list that says that it is whole, None of one that says it is not."""
    page = desk.ask("GET", "/v1/sessions", params={"limit": 200}, at=at).json()
    assert page["next"] is None
    return None if page["partial"] else sorted(each["sessionId"] for each in page["sessions"])


@pytest.mark.parametrize("way", [Way.TO_SERVER, Way.TO_CLIENT, Way.BOTH], ids=str)
def test_an_owner_that_cannot_be_reached_is_answered_for_in_time_and_is_back_afterwards(
    apart, hop, way
):
    hop.cut(way)
    answer, took = timed(lambda: apart.get("s", at=BETWEEN))
    assert took < ANSWER_S
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert apart.get("s", at=OWNER).status_code == 200
    hop.heal()
    eventually(lambda: apart.get("s", at=BETWEEN).status_code == 200, within_s=PATIENCE_S)


def test_a_prompt_through_a_line_that_breaks_is_never_carried_out_twice(apart, hop):
    hop.lossy(0.3)
    keys, accepted = [f"key-{number:04}" for number in range(20)], 0
    for key in keys:
        for _ in range(50):
            try:
                answer = apart.prompt("s", "x", at=BETWEEN, headers={"Idempotency-Key": key})
            except httpx.RemoteProtocolError:
                continue  # the line broke in the midst of the answer: ask again
            assert answer.status_code in {202, 503}, answer.text
            if answer.status_code == 202:
                accepted += 1
                break
    assert accepted == len(keys)
    hop.heal()
    eventually(lambda: apart.get("s", at=OWNER).json()["state"] == "idle", within_s=PATIENCE_S)
    with apart.events("s", OWNER, since="0") as stream:
        ends = 0
        for _, kind, _ in stream:
            ends += kind == "agent_end"
            if ends == len(keys):
                break
    assert apart.get("s", at=OWNER).json()["turns"] == len(keys)


@pytest.mark.parametrize("size", [400, 2_000, 9_000])
def test_a_stream_that_breaks_off_after_some_bytes_goes_on_without_loss_or_repetition(
    apart, hop, size
):
    apart.create("slow", blueprint="slow", at=OWNER)
    apart.prompt("slow", str(WORDS), at=OWNER)
    seen, turns = [], 0
    hop.cut_after(size)
    while not seen or seen[-1][1] != "agent_end":
        turns += 1
        assert turns < 500
        hop.heal() if turns > 20 else None
        seen += some_of(apart, seen)
    words = "".join(data["delta"] for _, kind, data in seen if kind == "message_delta")
    assert words == "".join(f"{number} " for number in range(WORDS))
    numbers = [number for number, *_ in seen if number]
    assert len(numbers) == len(set(numbers))


def some_of(desk, seen):
    """Follow from where it broke off; return what comes until it breaks off again."""
    last = next((number for number, *_ in reversed(seen) if number), None)
    options = {"headers": {"Last-Event-ID": last}} if last else {"since": "0"}
    found = []
    try:
        with desk.events("slow", BETWEEN, **options) as stream:
            for event in stream:
                found.append(event)
                if event[1] == "agent_end":
                    break
    except (AssertionError, httpx.HTTPError):
        pass
    return found
