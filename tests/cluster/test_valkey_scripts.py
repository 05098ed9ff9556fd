"""The scripts, held to the model: the same random calls get the same answers, on both servers."""

from dataclasses import replace

import pytest

from cluster.random_calls import TERMS, RandomCalls, outcome, told
from frontdesk.cluster.errors import LeaseLost
from frontdesk.cluster.index import ClusterIndex, Moment
from frontdesk.cluster.records import IndexLimits, NewEntry, NodeRecord, Selection
from frontdesk.cluster.valkey import verbs
from frontdesk.errors import FrontdeskError
from support.engines import PROGRAMS, EngineServer
from support.scripted_index import ScriptedIndex

pytestmark = pytest.mark.slow

CALLS = 400
SEEDS = 60


@pytest.fixture(scope="module", params=PROGRAMS, ids=str)
def server(request):
    request.param.needed()
    with EngineServer(request.param) as server:
        yield server


@pytest.fixture
def scripts(server):
    index = ScriptedIndex(server)
    index.wipe()
    yield index
    index.close()


def ask_both(seed, scripts, model):
    """Ask both the same calls; fail at the first answer that differs."""
    calls, asked = RandomCalls(seed), []
    for number in range(CALLS):
        at = calls.moment()
        name, arguments, named = calls.next()
        asked.append(f"{at} {name} {arguments} {named}")
        expected = outcome(model, at, name, arguments, named)
        answer = outcome(scripts, at, name, arguments, named)
        if told(answer) != told(expected):
            history = "\n".join(asked[-12:])
            raise AssertionError(
                f"seed {seed}, call {number}: {told(answer)} instead of {told(expected)}\n{history}"
            )
        calls.answered(name, arguments, expected)
    return calls


PLANTED = (
    ("now < lease.deadline", "now <= lease.deadline + 1"),
    ("if quiet > 0 then return", "if quiet >= lease_length then return"),
    ("math.max(clock - clock_then, 0)", "clock - clock_then"),
    ("or known > revision then", "or known > revision + 1 then"),
    ("count_reservation(e, -1)\n", "\n"),
    ("toggle_token(e)\n  log('ended'", "log('ended'"),
    ("redis.call('ZREM', P .. 'tenant:' .. e[TENANT], id)", ""),
    ("fence < first.fence", "fence > first.fence"),
    ("used >= limit", "used > limit"),
    ("reached + 1\n", "reached + 2\n"),
    ("e[NODE] ~= A[1] or e[FENCE] ~= A[3]", "e[NODE] ~= A[1]"),
    ("'until', deadline)\n", "'until', '0')\n"),
    # In the burial, which ends many together.
    ("leaves(P .. 'tenant:' .. e[TENANT], id)\n", "\n"),
    ("count(counter, -number)", "count(counter, number)"),
    # In the plain create, which is written apart from the others.
    ("or redis.call('EXISTS', P .. 'entry:' .. id) == 1 then", "then"),
    ("redis.call('ZADD', P .. 'key:' .. e[6], number, id)", ""),
    ("if m[6] ~= '1' and (e[11] == '0' or", "if m[6] ~= '1' and ("),
    (".. e[5] .. e[8], 1)", ".. e[5] .. e[8], 2)"),
    ("local all, token = said[3], e[2]", "local all, token = said[3], e[1]"),
)
"""Faults in the scripts, each small: a comparison, a forgotten index, a wrong order."""


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault[0].split("\n")[0])
def test_a_fault_planted_in_the_scripts_is_found(fault, server):
    scripts = ScriptedIndex(server, planted=fault)
    try:
        for seed in range(SEEDS):
            scripts.wipe()
            try:
                ask_both(seed, scripts, ClusterIndex())
            except AssertionError:
                assert scripts.is_planted
                return
    finally:
        scripts.close()
    raise AssertionError("it was not found")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_same_random_calls_get_the_same_answers_from_the_scripts_and_the_model(seed, scripts):
    ask_both(seed, scripts, ClusterIndex())


@pytest.mark.parametrize("seed", range(10))
def test_indexes_and_counters_are_what_the_entries_say(seed, scripts):
    ask_both(seed, scripts, ClusterIndex())
    sets, used = {}, {}
    for name in scripts.names("entry:*"):
        e = scripts.hash(f"entry:{name}")
        reserved = "fence" not in e
        counters = [f"t:{e['tenant']}"] if reserved else []
        counters += [f"k:{e['key']}"] if reserved and "key" in e else []
        counters += [f"b:2:{e['tenant']}{e['blueprint']}"] if "blueprint" in e else []
        for counter in counters:
            used[counter] = used.get(counter, 0) + 1
        places = [f"tenant:{e['tenant']}", f"node:{e['node']}"]
        places += [f"key:{e['key']}"] if "key" in e else []
        if "fence" not in e:
            places = [f"reserved:{e['node']}", *(["reserved"] if "until" in e else [])]
        for place in places:
            sets.setdefault(place, set()).add(name)
    kinds = ("tenant:", "key:", "node:", "reserved:")
    there = [f"{kind}{name}" for kind in kinds for name in scripts.names(f"{kind}*")]
    there += ["reserved"] if "reserved" in sets else []
    assert {place: scripts.members(place) for place in there} == sets
    assert {counter: int(number) for counter, number in scripts.hash("used").items()} == used
    entries = sum(len(ids) for place, ids in sets.items() if place.startswith("node:"))
    assert int(scripts.hash("meta")["entries"]) == entries


def outcome_of(call, answer):
    try:
        return call.outcome(answer)
    except FrontdeskError as error:
        return error


@pytest.mark.parametrize("seed", range(20))
def test_creates_and_reservations_that_go_together_come_out_as_if_each_came_alone(seed, scripts):
    model = ClusterIndex()
    calls = ask_both(seed, scripts, model)
    for name in ["create", "reserve"] * 15:
        at = calls.moment()
        asked = [getattr(calls, f"_{name}")() for _ in range(calls.random.randrange(1, 9))]
        expected = [outcome(model, at, name, *one) for one in asked]
        made = [getattr(verbs, name)(*arguments, **named) for arguments, named in asked]
        answers = scripts.ask_together(at, made)
        found = [outcome_of(call, answer) for call, answer in zip(made, answers, strict=True)]
        assert [told(one) for one in found] == [told(one) for one in expected]
        for (arguments, _), answer in zip(asked, expected, strict=True):
            calls.answered(name, arguments, answer)
        assert scripts.list(at, Selection()) == model.list(at, Selection())
        page = (at, max(1, calls.known - 20))
        assert scripts.follow(*page, era=calls.eras[-1]) == model.follow(*page, era=calls.eras[-1])


def many(node, number):
    """Make entries of a node, each of an id of its own."""
    for n in range(number):
        yield NewEntry(f"t/{node}{n}", node, f"{n:016x}", "t", "k", 1, "b", None, 1, minted=True)


def both(scripts, model, name, *arguments, **named):
    """Ask both the same; return the answer."""
    at = Moment(10**15, "run")
    expected = outcome(model, at, name, arguments, named)
    assert told(outcome(scripts, at, name, arguments, named)) == told(expected)
    return expected


STARTED_US = 10**15


def create_each(scripts, *creates):
    """Ask both for creates of one node, each so long after it joined; return the outcomes."""
    model = ClusterIndex()
    record = NodeRecord("n", "host/1", "unix:/s", 1, "1", "")
    both(scripts, model, "join", record, terms=TERMS[0])
    # For so long as this lease an engine that began anew waits: longer than the other one lasts.
    both(scripts, model, "join", replace(record, incarnation="m"), terms=TERMS[1])
    reserved, *entries = many("n", len(creates) + 1)
    both(scripts, model, "reserve", reserved, limits=IndexLimits(), ttl_s=1)
    found = []
    for entry, (after_us, run_id, known) in zip(entries, creates, strict=True):
        at, named = Moment(STARTED_US + after_us, run_id, known), {"limits": IndexLimits()}
        found.append(outcome(model, at, "create", (entry,), named))
        assert told(outcome(scripts, at, "create", (entry,), named)) == told(found[-1])
    return found


def test_a_create_at_the_moment_when_the_lease_runs_out_is_refused(scripts):
    moments = [(after_us, "run", 0) for after_us in (1_000_000, 1_999_999, 2_000_000)]
    *made, last = create_each(scripts, *moments)
    assert all(isinstance(one, int) for one in made)
    assert isinstance(last, LeaseLost)


def test_a_create_that_finds_out_that_the_engine_has_lost_something_is_of_a_new_era(scripts):
    ahead, other_run = (STARTED_US + 10**9, STARTED_US + 2 * 10**9)
    calls = (0, "run", 0), (1, "run", ahead), (2, "run", ahead + 1), (3, "run", other_run)
    first, second, third, fourth, last = create_each(scripts, *calls, (4, "other", 0))
    assert first < ahead < second < third < other_run < fourth
    assert last == fourth + 2


def test_a_create_gives_up_what_was_reserved_for_too_long(scripts):
    create_each(scripts, (999_999, "run", 0))
    assert len(scripts.names("entry:*")) == 2
    scripts.wipe()
    create_each(scripts, (1_000_000, "run", 0))
    assert len(scripts.names("entry:*")) == 1
    assert scripts.members("reserved") == set()


def test_a_create_of_a_node_that_is_half_buried_is_refused(scripts):
    model = ClusterIndex()
    record = NodeRecord("n", "host/1", "unix:/s", 1, "1", "")
    both(scripts, model, "join", record, terms=TERMS[0])
    *entries, last = many("n", 131)
    for entry in entries:
        both(scripts, model, "create", entry, limits=IndexLimits())
    assert not both(scripts, model, "bury", "n", proven=True).done
    at, named = Moment(STARTED_US, "run"), {"limits": IndexLimits()}
    refused = outcome(model, at, "create", (last,), named)
    assert isinstance(refused, LeaseLost)
    assert told(outcome(scripts, at, "create", (last,), named)) == told(refused)


@pytest.mark.parametrize("verb", ["bury", "leave"])
def test_a_node_of_many_entries_goes_a_hundred_at_a_time_whoever_goes_on(verb, scripts):
    model = ClusterIndex()
    record = NodeRecord("n", "host/1", "unix:/s", 1, "1", "")
    both(scripts, model, "join", record, terms=TERMS[0])
    for entry in list(many("n", 250))[:130]:
        both(scripts, model, "create", entry, limits=IndexLimits())
    for entry in list(many("n", 250))[130:]:
        both(scripts, model, "reserve", entry, limits=IndexLimits(), ttl_s=30)
    proof = {"proven": True} if verb == "bury" else {}
    assert both(scripts, model, verb, "n", **proof).ended == 100
    # Somebody else goes on: the reason is that of whoever began.
    other, named = ("leave", {}) if verb == "bury" else ("bury", {"proven": False})
    assert both(scripts, model, other, "n", **named).ended == 30
    while not both(scripts, model, other, "n", **named).done:
        pass
    page = both(scripts, model, "follow", 10**15, era=10**15)
    reason = "lost" if verb == "bury" else "shutdown"
    assert {str(one.change.reason) for one in page.changes[130:]} == {reason}
    assert scripts.names("*") == {"meta", "log", "clock"}


def test_a_list_of_everything_merges_the_nodes_page_by_page(scripts):
    model, entries = ClusterIndex(), []
    for node, number in (("a", 300), ("b", 5), ("c", 70), ("d", 0)):
        record = NodeRecord(node, node, "unix:/s", 1, "1", "")
        both(scripts, model, "join", record, terms=TERMS[0])
        entries.append(list(many(node, number)))
    while any(entries):
        for left in entries:
            for entry in left[:7]:
                both(scripts, model, "create", entry, limits=IndexLimits())
            del left[:7]
    for limit in (1000, 375, 374, 100, 13):
        after, found = 0, 0
        while (page := both(scripts, model, "list", Selection(), after=after, limit=limit)).more:
            after, found = page.entries[-1].fence, found + len(page.entries)
        assert found + len(page.entries) == 375
