"""The checker finds each fault that is planted in a good history, and nothing in a good one."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import history as h
from cluster.checker import LAWS, findings
from cluster.true_cluster import NODES, TrueCluster

TENANTS = ("acme", "zeta")
STEPS = (
    *("create", "create", "create", "end", "look", "list", "watch", "close", "dump", "request"),
    *("kill", "join", "pause", "resume", "cut", "heal", "down", "up", "wipe", "jump"),
)


steps = st.tuples(
    st.sampled_from(STEPS),
    st.sampled_from(NODES),
    st.sampled_from(["s1", "s2", "s3", "s4"]),
    st.sampled_from(TENANTS),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_good_history_has_no_finding(drawn):
    cluster = TrueCluster()
    for step in drawn:
        cluster.step(*step)
    assert findings(cluster.finish()) == []


# -- what is planted -------------------------------------------------------------------------------


def good_history():
    """Return a good history in which there is something of everything."""
    cluster = TrueCluster()
    for node, session_id, tenant in [("n1", "s1", "acme"), ("n2", "s2", "zeta")]:
        cluster.create(node, session_id, tenant)
    cluster.watch("acme")
    cluster.watch()
    cluster.create("n3", "s3", "acme")
    cluster.end("s1")
    cluster.create("n2", "s1", "acme")
    for what in ("look", "request"):
        cluster.step(what, "n1", "s2", "acme")
    cluster.step("list", "n1", "s1", "acme")
    cluster.step("wipe", "n1", "s1", "acme")
    cluster.at += 200
    cluster.create("n1", "s4", "acme")
    cluster.dump()
    cluster.kill("n3")
    return cluster.finish()


def change_last(history, kind, /, **changes):
    """Change the last event of a kind; a value may be a function of the old one."""
    place = max(i for i, event in enumerate(history) if isinstance(event, kind))
    old = history[place]
    new = {n: c(getattr(old, n)) if callable(c) else c for n, c in changes.items()}
    history[place] = msgspec.structs.replace(old, **new)


def take_one_before_last(history, kind):
    """Take away the event of a kind that has the same watcher as the last one and comes before."""
    places = [i for i, event in enumerate(history) if isinstance(event, kind)]
    last = history[places[-1]]
    del history[max(i for i in places[:-1] if history[i].watcher == last.watcher)]


def second_owner(history):
    at = history[-1].at - 100
    start = {"node": "n2", "session_id": "s4", "agent": "second"}
    history[-1:-1] = [
        h.AgentStarted(at=at, **start),
        h.CreateAsked(at=at, token="second", **start),
        h.CreateAnswered(at=at + 1, token="second", fence=9_000_000),
        h.AgentEnded(at=at + 2, node="n2", agent="second"),
    ]


def early_heir(history):
    """Let another node have an id although its owner renewed its lease a moment ago."""
    at = history[-1].at - 100
    heir = [
        h.Cut(at=at - 1, node="n1", whom="engine"),
        h.Renewed(at=at - 2, asked_at=at - 3, node="n1"),
        h.Healed(at=at + 3, node="n1", whom="engine"),
    ]
    second_owner(history)
    history[-1:-1] = heir
    history.sort(key=lambda event: event.at)


def ghost(entries):
    return (*entries, h.Held("s9", 7, "n1"))


def without_first(entries):
    return entries[1:]


def late_ghost(history):
    """Let an agent end that the last dump still has."""
    history.insert(-1, h.AgentEnded(at=history[-1].at - 60, node="n2", agent="a5"))


def refused_id(history):
    """Refuse an id that nobody has."""
    start = {"at": history[-1].at - 50, "node": "n1", "session_id": "s8", "agent": "refused"}
    history[-1:-1] = [
        h.AgentStarted(**start),
        h.CreateAsked(token="refused", **start),
        h.CreateAnswered(at=start["at"], token="refused", refused="SessionAlreadyExists"),
        h.AgentEnded(at=start["at"], node="n1", agent="refused"),
    ]


def early_death(history):
    """Let a node have renewed its lease shortly before what it had was lost."""
    place = max(i for i, event in enumerate(history) if isinstance(event, h.WatchTold))
    at = history[place].at - 40
    history.insert(place, h.Renewed(at=at, asked_at=at, node="n3", incarnation="i3"))


def unsettled(history):
    at = history[-1].at - 1
    history.insert(-1, h.Renewed(at=at, asked_at=at, node="n1", matches=False))


def one_too_many(history):
    """Accept two sessions of a tenant that may have one."""
    at = history[-1].at - 60
    for number, session_id in enumerate(("s8", "s9")):
        token, then = f"too many {number}", at + number
        start = {"node": "n1", "session_id": session_id, "agent": token}
        history[-1:-1] = [
            h.AgentStarted(at=then, **start),
            h.CreateAsked(at=then, token=token, tenant_id="acme", limit=1, **start),
            h.CreateAnswered(at=then + 0.1, token=token, fence=9_000_000 + number),
            h.AgentEnded(at=at + 10, node="n1", agent=token),
        ]
    history.sort(key=lambda event: event.at)


def too_fast(history):
    """Let one more be done than may be, over a window that no clock moves."""
    at = history[-1].at - 50
    taken = {"node": "n1", "counted": "requests", "limit": 2, "window_s": 4.0}
    history[-1:-1] = [
        h.RateTaken(at=at + each, asked_at=at + each - 0.1, **taken) for each in (0, 1, 3)
    ]


def claim_taken(history):
    """Let a node hear that it has a claim which another one has, and renews its lease."""
    at = history[-1].at - 50
    asking = {"slot": "c", "ttl_s": 20.0}
    history[-1:-1] = [
        h.Renewed(at=at, asked_at=at, node="n1", incarnation="i1"),
        h.ClaimAsked(at=at, node="n1", incarnation="i1", **asking),
        h.ClaimAnswered(at=at + 1, asked_at=at, node="n1", slot="c", owner="i1"),
        h.ClaimAsked(at=at + 2, node="n2", incarnation="i2", **asking),
        h.ClaimAnswered(at=at + 3, asked_at=at + 2, node="n2", slot="c", owner="i2"),
    ]


def unheard_update(history):
    """Let a session that the last dump has, have another model than there."""
    history.insert(-1, h.AgentUpdated(at=history[-1].at - 60, node="n2", agent="a5", model="large"))


PLANTED = [
    ("out of date", unheard_update),
    ("refused create", refused_id),
    ("early death", early_death),
    ("unsettled", unsettled),
    ("ghost", lambda hist: change_last(hist, h.Dumped, entries=ghost)),
    ("ghost", late_ghost),
    (
        "ghost",
        lambda hist: hist.append(
            h.LookedUp(at=9e5, asked_at=9e5, node="n2", session_id="s3", fence=1, owner="n3")
        ),
    ),
    ("missing agent", lambda hist: change_last(hist, h.Dumped, entries=without_first)),
    ("lost create", lambda hist: change_last(hist, h.Listed, entries=without_first)),
    (
        "lost create",
        lambda hist: hist.append(
            h.LookedUp(at=9e5, asked_at=9e5, node="n1", session_id="s2", refused="SessionNotFound")
        ),
    ),
    ("double owner", second_owner),
    ("double owner", early_heir),
    ("double owner", lambda hist: change_last(hist, h.Dumped, entries=lambda e: (*e, e[0]))),
    (
        "double owner",
        lambda hist: hist.insert(
            -1, h.AgentStarted(at=hist[-1].at - 90, node="n1", session_id="s2", agent="beside")
        ),
    ),
    ("doubled create", lambda hist: change_last(hist, h.CreateAnswered, fence=102)),
    ("doubled create", lambda hist: change_last(hist, h.CreateAnswered, fence=78_000_000)),
    (
        "doubled create",
        lambda hist: hist.append(h.CreateAnswered(at=9e5, token="t5", fence=77_000_000)),
    ),
    ("doubled create", lambda hist: change_last(hist, h.Dumped, entries=lambda e: (*e, e[0]))),
    ("wrong index", lambda hist: change_last(hist, h.Dumped, counts=lambda c: {**c, "all": 9})),
    (
        "wrong index",
        lambda hist: change_last(hist, h.Dumped, counts=lambda c: {**c, "tenant:acme": 1}),
    ),
    (
        "wrong index",
        lambda hist: change_last(hist, h.Dumped, tenants=lambda t: {**t, "gone": ("s9",)}),
    ),
    ("wrong index", lambda hist: change_last(hist, h.Dumped, keys={})),
    ("watch gap", lambda hist: take_one_before_last(hist, h.WatchTold)),
    ("watch gap", lambda hist: change_last(hist, h.WatchTold, revision=lambda r: r + 1)),
    ("watch gap", lambda hist: change_last(hist, h.WatchBegan, resync=False)),
    ("watch state", lambda hist: change_last(hist, h.WatchTold, kind="created")),
    ("watch state", lambda hist: change_last(hist, h.WatchTold, fence=3)),
    ("watch state", lambda hist: change_last(hist, h.WatchBegan, entries=())),
    ("failed request", lambda hist: change_last(hist, h.Requested, outcome="failed")),
    ("failed request", lambda hist: change_last(hist, h.Requested, outcome="retry")),
    ("failed request", lambda hist: change_last(hist, h.Requested, outcome="missing")),
    ("fence back", lambda hist: change_last(hist, h.CreateAnswered, fence=5)),
    ("over the limit", one_too_many),
    ("over the rate", too_fast),
    ("claim taken", claim_taken),
]


@pytest.mark.parametrize(("law", "plant"), PLANTED, ids=[law for law, _ in PLANTED])
def test_a_planted_fault_is_found(law, plant):
    history = good_history()
    assert findings(history) == []
    plant(history)
    assert law in {finding.law for finding in findings(history)}


def test_every_law_has_been_broken_by_a_planted_fault():
    assert {law for law, _ in PLANTED} == set(LAWS)


def test_faults_excuse_what_the_contract_excuses():
    cluster = TrueCluster()
    cluster.create("n1", "s1", "acme")
    cluster.add(h.Paused, node="n1")
    cluster.add(h.Requested, asked_at=cluster.at, node="n2", session_id="s1", outcome="retry")
    cluster.add(h.Resumed, node="n1")
    cluster.at += 100
    cluster.add(h.EngineDown)
    assert findings(cluster.events) == []
    cluster.add(h.Requested, asked_at=cluster.at, node="n2", session_id="s1", outcome="retry")
    assert [finding.law for finding in findings(cluster.events)] == ["failed request"]


def test_only_a_node_that_is_cut_off_for_long_may_end_a_session_untold():
    cluster = TrueCluster()
    cluster.at += 100
    cluster.create("n1", "s1", "acme")
    cluster.add(h.Renewed, node="n1", asked_at=cluster.at)
    cluster.add(h.EngineDown)
    before, asked = cluster.events, {"node": "n2", "session_id": "s1", "outcome": "retry"}
    for elapsed_s, excused in ((5, False), (16, True)):
        cluster.events, cluster.at = list(before), before[-1].at + elapsed_s
        cluster.add(h.Requested, asked_at=cluster.at, **asked)
        assert [finding.law for finding in findings(cluster.events)] == ["failed request"]
        cluster.events.pop()
        cluster.add(h.AgentStopping, node="n1", agent="a4")
        cluster.add(h.Requested, asked_at=cluster.at, **asked)
        assert (findings(cluster.events) == []) is excused


@pytest.mark.parametrize("died", [False, True])
def test_what_a_node_renewed_last_has_to_match_unless_it_has_died(died):
    cluster = TrueCluster()
    cluster.at += 100
    cluster.add(h.Renewed, node="n1", asked_at=cluster.at, matches=False)
    if died:
        cluster.add(h.NodeGone, node="n1")
    cluster.at += 1
    cluster.dump(settled=True)
    laws = [finding.law for finding in findings(cluster.events)]
    assert laws == ([] if died else ["unsettled"])


def test_renewals_beside_changes_need_not_match_as_long_as_the_last_one_does():
    cluster = TrueCluster()
    cluster.create("n1", "s1", "acme")
    for matches in (False, True):
        cluster.add(h.Renewed, node="n1", asked_at=cluster.at, matches=matches)
    cluster.at += 1
    cluster.dump(settled=True)
    assert findings(cluster.events) == []


def test_a_dead_node_s_entries_stay_for_as_long_as_nobody_is_left_to_bury_it():
    cluster = TrueCluster()
    cluster.create("n1", "s1", "acme")
    for node in ("n2", "n3"):
        cluster.add(h.Paused, node=node)
    cluster.add(h.NodeGone, node="n1")
    cluster.at += 60
    cluster.dump()
    for node in ("n2", "n3"):
        cluster.add(h.Resumed, node=node)
    cluster.at += 30
    cluster.dump()
    assert findings(cluster.events) == []
    cluster.at += 30
    cluster.dump()
    assert [finding.law for finding in findings(cluster.events)] == ["ghost"]


@pytest.mark.parametrize("ended", [False, True])
def test_an_owner_that_was_away_in_a_loss_comes_back_only_where_the_later_one_has_ended(ended):
    cluster = TrueCluster()
    cluster.create("n1", "s1", "acme")
    first = dict(cluster.entries)
    cluster.disturb("n1", "cut")
    cluster.add(h.EngineLost, how="wiped")
    cluster.entries.clear()
    cluster.add(h.AgentEnded, node="n1", agent=first["s1"][1])
    cluster.create("n2", "s1", "acme")
    held, agent = cluster.entries["s1"]
    cluster.restore("n1")
    if ended:
        cluster.add(h.EndTold, node="n2", session_id="s1", fence=held.fence)
    cluster.add(h.AgentEnded, node="n2", agent=agent)
    cluster.entries = first
    cluster.add(h.AgentStarted, node="n1", session_id="s1", agent="still there")
    cluster.at += 200
    cluster.dump(settled=True)
    laws = {finding.law for finding in findings(cluster.events)}
    assert ("fence back" in laws) is not ended


# -- files -----------------------------------------------------------------------------------------


def test_a_history_is_what_several_processes_wrote_in_the_order_of_times(tmp_path):
    history = good_history()
    one, two = (h.HistoryFile(tmp_path / name) for name in ("one", "two"))
    for number, event in enumerate(history):
        (one if number % 3 else two).write(event)
    one.close()
    two.close()
    assert h.read_history(tmp_path / "one", tmp_path / "two") == history


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b'{"event":"Paused","at":1.5,"node":"n1"}\n{"event":"Resu')
    assert h.read_history(path) == [h.Paused(at=1.5, node="n1")]


def test_every_event_has_its_line_for_people():
    lines = [h.in_words(event) for event in good_history()]
    assert any("CreateAnswered" in line and "fence=" in line for line in lines)
