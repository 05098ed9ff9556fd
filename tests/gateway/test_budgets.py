"""Budgets: past one, prompts are refused until it begins anew; the usage says what is left."""

import json
from datetime import UTC, datetime

import pytest
from websockets.sync.client import connect

from frontdesk.gateway.keys import Key, digest_of
from frontdesk.gateway.settings import Config
from frontdesk.testing import ManualClock
from gateway.requirements import covers
from gateway.running import ACME, KEYS, UMBRELLA, RunningGateway, create, turn_of

NOON_MS = int(datetime(2026, 3, 30, 12, tzinfo=UTC).timestamp() * 1000)
OTHER = "acme-other-secret-0123456789"
ALL_KEYS = (*KEYS, Key("k-other", "acme", "other", digest_of(OTHER)))
DAY_S = 86_400


class Run:
    """A gateway with budgets, on a clock of its own."""

    def __init__(self, state, clock, **tables):
        self.clock = clock
        self.running = RunningGateway(state, keys=ALL_KEYS, clock=clock, **tables)

    def __enter__(self):
        self.running.__enter__()
        self.client = self.running.client()
        return self

    def __exit__(self, *exc_info):
        self.client.close()
        self.running.__exit__(*exc_info)

    def use(self, tokens, *, secret=ACME, session="s"):
        """Have a turn use so many tokens: a word is one, and one is said back."""
        with self.running.client(secret) as client:
            if client.get(f"/v1/sessions/{session}").status_code == 404:
                create(client, session)
            turn_of(client, session, " ".join(["word"] * (tokens // 2)))

    def refused(self, *, secret=ACME, session="s"):
        """Prompt; return how that was refused, None where it was not."""
        with self.running.client(secret) as client:
            path = f"/v1/sessions/{session}/prompt"
            answer = client.post(path, json={"text": "more", "wait": 20})
            return None if answer.is_success else answer

    def budgets(self, secret=ACME):
        with self.running.client(secret) as client:
            return {each["budget"]: each for each in client.get("/v1/usage").json()["budgets"]}


@pytest.fixture
def day():
    return ManualClock(wall_ms=NOON_MS)


@covers("errors.budget-exceeded")
def test_past_a_budget_prompts_are_429_until_it_begins_anew(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_day": 10}) as run:
        run.use(8)
        assert run.refused() is None
        refused = run.refused()
        assert refused.status_code == 429
        told = refused.json()
        assert told.pop("message").startswith("the budget tokens_per_day of 10 is used up")
        assert told == {
            "error": "budget_exceeded",
            "scope": "per_tenant",
            "limit": 10,
            "reason": "tokens_per_day",
            "retryAfter": DAY_S // 2,
        }
        assert refused.headers["retry-after"] == str(DAY_S // 2)
        day.advance(DAY_S / 2)
        assert run.refused() is None


@pytest.mark.parametrize(
    ("budget", "scope", "reset_s"),
    [
        ({"tokens_per_day": 10}, "per_tenant", DAY_S / 2),
        ({"tokens_per_month": 10}, "per_tenant", DAY_S * 1.5),
        ({"cost_usd_per_day": 0.001}, "per_tenant", DAY_S / 2),
        ({"cost_usd_per_month": 0.001}, "per_tenant", DAY_S * 1.5),
        ({"key_tokens_per_day": 10}, "per_api_key", DAY_S / 2),
        ({"key_tokens_per_month": 10}, "per_api_key", DAY_S * 1.5),
        ({"key_cost_usd_per_day": 0.001}, "per_api_key", DAY_S / 2),
        ({"key_cost_usd_per_month": 0.001}, "per_api_key", DAY_S * 1.5),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
@covers("errors.budget-exceeded", "meter.budgets")
def test_each_budget_is_named_in_the_refusal_and_in_the_usage(
    tmp_path, day, budget, scope, reset_s
):
    (name, limit) = next(iter(budget.items()))
    with Run(tmp_path, day, budgets=budget) as run:
        assert run.budgets()[name] == {
            "budget": name, "scope": scope, "limit": limit, "used": 0, "left": limit,
            "resetsAt": NOON_MS + reset_s * 1000,
        }  # fmt: skip
        run.use(10)
        told = run.refused().json()
        assert (told["scope"], told["reason"], told["limit"]) == (scope, name, limit)
        assert told["retryAfter"] == reset_s
        assert run.budgets()[name]["left"] == 0
        day.advance(reset_s)
        assert run.refused() is None


def test_a_keys_budget_is_its_own_and_a_tenants_is_that_of_all_its_keys(tmp_path, day):
    with Run(tmp_path, day, budgets={"key_tokens_per_day": 10, "tokens_per_day": 20}) as run:
        run.use(10)
        assert run.refused().json()["scope"] == "per_api_key"
        run.use(10, secret=OTHER, session="t")
        assert run.refused(secret=OTHER).json()["scope"] == "per_tenant"
        run.use(2, secret=UMBRELLA)
        assert run.refused(secret=UMBRELLA) is None
        assert run.budgets(UMBRELLA)["tokens_per_day"]["used"] == 4


def test_a_tenants_own_budgets_take_the_place_of_those_of_all(tmp_path, day):
    own = {"acme": {"budgets": {"tokens_per_day": 4}}}
    with Run(tmp_path, day, budgets={"key_tokens_per_day": 2}, tenants=own) as run:
        run.use(2)
        assert run.refused() is None
        assert run.refused().json()["limit"] == 4
        run.use(2, secret=UMBRELLA)
        assert run.refused(secret=UMBRELLA).json()["limit"] == 2


@covers("meter.budgets")
def test_what_was_used_survives_a_restart(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_month": 10}) as run:
        run.use(10)
    day.advance(DAY_S)
    with Run(tmp_path, day, budgets={"tokens_per_month": 10}) as run:
        create(run.client, "s")
        assert run.refused().json()["reason"] == "tokens_per_month"
        assert run.budgets()["tokens_per_month"]["used"] == 10


def test_a_reload_changes_the_budgets_and_what_was_used_still_counts(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_day": 10}) as run:
        run.use(10)
        assert run.refused() is not None
        gateway = run.running
        for limit, refuses in ((100, False), (11, True)):
            tables = {"server": gateway.config.server, "budgets": {"tokens_per_day": limit}}
            other = Config(**tables)
            gateway.call(lambda other=other: gateway.gateway.reload(other, keys=ALL_KEYS))
            assert (run.refused() is not None) is refuses


def test_a_session_that_opens_with_a_prompt_past_a_budget_is_not_opened(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_day": 2}) as run:
        run.use(2)
        refused = run.client.post("/v1/sessions", json={"model": "test", "prompt": "more"})
        assert (refused.status_code, refused.json()["error"]) == (429, "budget_exceeded")
        assert [
            each["sessionId"] for each in run.client.get("/v1/sessions").json()["sessions"]
        ] == ["s"]
        assert create(run.client, "without")["prompt"] is None


def test_a_websocket_is_answered_with_the_same_refusal_and_all_but_prompts_goes_on(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_day": 2}) as run:
        run.use(2)
        url = f"{run.running.ws_url}/v1/sessions/s/ws"
        with connect(url, additional_headers={"X-API-Key": ACME}) as socket:
            socket.send(json.dumps({"action": "prompt", "text": "more"}))
            assert json.loads(socket.recv(20))["error"] == "budget_exceeded"
            socket.send(json.dumps({"action": "steer", "text": "more"}))
            assert json.loads(socket.recv(20))["status"] == "accepted"


def test_an_idempotency_key_does_not_hold_the_refusal_beyond_the_budget(tmp_path, day):
    with Run(tmp_path, day, budgets={"tokens_per_day": 2}) as run:
        run.use(2)
        ask = {"json": {"text": "more"}, "headers": {"Idempotency-Key": "k"}}
        assert run.client.post("/v1/sessions/s/prompt", **ask).status_code == 429
        day.advance(DAY_S / 2)
        assert run.client.post("/v1/sessions/s/prompt", **ask).status_code == 202


# -- usage by day, model and key -----------------------------------------------------------------


@covers("meter.by-day")
def test_usage_is_summed_by_day_model_and_key_a_page_at_a_time(tmp_path, day):
    with Run(tmp_path, day) as run:
        run.use(4)
        day.advance(DAY_S)
        run.use(6)
        run.use(2, secret=OTHER)
        run.use(8, secret=UMBRELLA)

        def rows(**query):
            found, after = [], None
            while True:
                page = run.client.get("/v1/usage", params={**query, **after} if after else query)
                assert page.status_code == 200, page.text
                assert len(page.json()["rows"]) <= int(query.get("limit", 100))
                found += page.json()["rows"]
                if (following := page.json()["next"]) is None:
                    return found
                after = {"after": following}

        by_day = rows(by="day", limit="1")
        assert [(each["day"], each["totalTokens"]) for each in by_day] == [
            ("2026-03-30", 4), ("2026-03-31", 8)
        ]  # fmt: skip
        assert {(each["model"], each["keyId"]) for each in by_day} == {(None, None)}
        assert [(r["keyId"], r["totalTokens"]) for r in rows(by="key")] == [
            ("k-acme", 10), ("k-other", 2)
        ]  # fmt: skip
        assert [(r["model"], r["prompts"]) for r in rows(by="model")] == [("test", 3)]
        both = rows(by="day,key", limit="2")
        assert [(r["day"], r["keyId"], r["totalTokens"]) for r in both] == [
            ("2026-03-30", "k-acme", 4), ("2026-03-31", "k-acme", 6), ("2026-03-31", "k-other", 2)
        ]  # fmt: skip
        confined = run.client.get("/v1/usage?from=2026-03-31&to=2026-03-31&by=key").json()
        assert (confined["key"]["totalTokens"], confined["tenant"]["totalTokens"]) == (6, 8)
        assert [each["totalTokens"] for each in confined["rows"]] == [6, 2]
        ever = run.client.get("/v1/usage").json()
        assert (ever["key"]["totalTokens"], ever["rows"], ever["next"]) == (10, [], None)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("by=week", "by"),
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("to=2026-3-1", "to"),
        ("from=2026-03-02&to=2026-03-01", "from"),
        ("limit=0", "limit"),
        ("by=day&after=x", "after"),
        ("by=day&after=WyJhIl0", "after"),
        ("by=model&after=WzFd", "after"),
        ("after=W10", "after"),
        ("first=2026-03-01", "first"),
    ],
)
def test_a_query_of_the_usage_that_makes_no_sense_is_400(acme, query, named):
    refused = acme.get(f"/v1/usage?{query}")
    assert (refused.status_code, named in refused.json()["message"]) == (400, True)
