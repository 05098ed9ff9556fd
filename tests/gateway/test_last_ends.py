"""The last ends and the last hour: bounded, by tenant, and one end once however many tell of it."""

from types import SimpleNamespace

import pytest

from frontdesk.gateway.rows import last_ends
from frontdesk.gateway.rows.last_ends import LastEnds, merged
from frontdesk.gateway.rows.last_hour import LastHour, minutes_of
from frontdesk.records import Ended, ExitReason, Metadata
from gateway.requirements import covers

DELETED = ExitReason.of("deleted")


class Clock:
    """A clock that a test moves."""

    ms = 10_000_000

    def wall_ms(self):
        return self.ms


def conversation(session_id, tenant_id="acme", fence=1):
    tokens = SimpleNamespace(total=0, cost_usd=0.0)
    return SimpleNamespace(
        tenant_id=tenant_id, session_id=session_id, fence=fence, uptime_ms=5, blueprint="b",
        model="m", api_key="k", counters=SimpleNamespace(turns=0, tokens=tokens),
    )  # fmt: skip


@covers("feed.ends-once")
def test_of_each_tenant_the_last_thousand_are_held_the_newest_first():
    ends = LastEnds(Clock(), node="one")
    for number in range(last_ends.MOST + 5):
        ends.add(conversation(f"s{number}"), DELETED)
    held = [each.session_id for each in ends.newest("acme")]
    assert (len(held), held[0], held[-1]) == (last_ends.MOST, f"s{last_ends.MOST + 4}", "s5")
    assert ends.newest("umbrella") == []


def test_a_tenant_with_many_ends_costs_no_other_one_its_own(monkeypatch):
    monkeypatch.setattr(last_ends, "MOST_TOGETHER", 10)
    clock = Clock()
    ends = LastEnds(clock, node="one")
    ends.add(conversation("quiet", "umbrella"), DELETED)
    for number in range(50):
        clock.ms += 1
        ends.add(conversation(f"s{number}"), DELETED)
    assert [each.session_id for each in ends.newest("umbrella")] == ["quiet"]
    assert len(ends.newest(None)) == 10
    assert ends.newest(None)[0].session_id == "s49"


@covers("feed.ends-once")
def test_what_two_nodes_tell_of_a_lost_session_is_one_end():
    session = Metadata("acme/a", 1, "k", "acme", 9_000_000, "b", "m", 17)
    ended = Ended(18, session, ExitReason.of("lost"), 10_000_000)
    told = []
    for name in ("one", "two"):
        ends = LastEnds(Clock(), node=name)
        ends.add_lost(ended, tenant_id="acme", session_id="a", node="three")
        told.append(ends.newest("acme"))
    (end,) = merged(told)
    assert (end.node, end.reason, end.age_ms) == ("three", "lost", 1_000_000)
    assert "17" not in (end.fence, end.log_id), "the index's numbers count every tenant's sessions"
    later = Ended(20, Metadata("acme/a", 1, "k", "acme", 9, "b", "m", 19), ended.reason, 10_000_001)
    ends.add_lost(later, tenant_id="acme", session_id="a", node="three")
    assert len(merged([*told, ends.newest("acme")])) == 2


@pytest.mark.parametrize("error", [ValueError("planted"), RuntimeError("planted")])
def test_an_end_has_no_text_of_an_exception(error):
    end = LastEnds(Clock(), node="one").add(conversation("a"), ExitReason.crashed(error))
    assert end.reason == f"crashed: {type(error).__name__}"


@covers("feed.hour")
def test_the_hour_forgets_what_is_older_and_counts_tenants_apart():
    clock = Clock()
    hour = LastHour(clock)
    hour.count("acme")
    hour.count("umbrella")
    hour.count("umbrella", "deleted")
    (minute,) = hour.minutes("acme")
    assert (minute.starts, minute.ends) == (1, {})
    (minute,) = hour.minutes(None)
    assert (minute.starts, minute.ends) == (2, {"deleted": 1})
    clock.ms += 3_600_000
    hour.count("acme")
    assert [each.starts for each in hour.minutes(None)] == [1]


@covers("feed.hour")
def test_the_minutes_of_several_nodes_add_up():
    clock = Clock()
    hours = [LastHour(clock), LastHour(clock)]
    for hour in hours:
        hour.count("acme")
        hour.count("acme", "deleted")
    (minute,) = minutes_of(hour.minutes("acme") for hour in hours)
    assert (minute.starts, minute.ends) == (2, {"deleted": 2})
