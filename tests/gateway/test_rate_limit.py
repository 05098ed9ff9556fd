"""Rate limits on an injected clock."""

import pytest

from frontdesk.gateway.errors import RateLimited
from frontdesk.gateway.rate_limit import ClockStorage, RateLimit
from gateway.requirements import covers


@covers("errors.rate-limited")
def test_one_more_than_the_limit_in_any_minute_is_refused(clock):
    rate = RateLimit(per_minute=3, what="requests", clock=clock)
    for _ in range(3):
        rate.hit("k")
        clock.advance(10)
    with pytest.raises(RateLimited) as caught:
        rate.hit("k")
    assert caught.value.retry_after_s == 30
    clock.advance(30)
    rate.hit("k")
    with pytest.raises(RateLimited):
        rate.hit("k")


@covers("limits.rate-headers")
def test_what_is_left_counts_down_and_the_reset_is_when_the_oldest_counts_no_more(clock):
    rate = RateLimit(per_minute=2, what="requests", clock=clock)
    first = rate.hit("k")
    assert (first.limit, first.remaining, first.reset_s) == (2, 1, 60)
    clock.advance(15)
    second = rate.hit("k")
    assert (second.remaining, second.reset_s) == (0, 45)


def test_identifiers_are_counted_apart(clock):
    rate = RateLimit(per_minute=1, what="requests", clock=clock)
    rate.hit("a")
    rate.hit("b")
    with pytest.raises(RateLimited):
        rate.hit("a")


def test_looking_counts_nothing(clock):
    rate = RateLimit(per_minute=1, what="requests", clock=clock)
    rate.check("a")
    rate.check("a")
    rate.hit("a")
    with pytest.raises(RateLimited):
        rate.check("a")


def test_a_changed_limit_holds_at_once(clock):
    rate = RateLimit(per_minute=1, what="requests", clock=clock)
    rate.hit("a")
    rate.change(per_minute=2)
    assert rate.hit("a").limit == 2


def test_a_flood_of_identifiers_is_bounded_and_forgets_the_least_recent(clock):
    storage = ClockStorage(clock, max_windows=2)
    for name in ("a", "b", "a", "c"):
        storage.acquire_entry(name, 10, 60)
    assert storage.get_moving_window("a", 10, 60)[1] == 2
    assert storage.get_moving_window("b", 10, 60)[1] == 0
