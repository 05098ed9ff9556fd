"""Filters by size, words, patterns and the operator's own function, for each tenant."""

import pytest

from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.guardrails import TenantGuardrails
from frontdesk.gateway.settings import Config
from gateway.requirements import covers


def no_shouting(tenant_id, text, direction):
    return "no shouting" if text.isupper() and direction == "input" else None


def breaks(tenant_id, text, direction):
    raise RuntimeError("the filter itself is broken")


def filters(**tables):
    return TenantGuardrails(Config(**tables))


def test_words_and_patterns_are_found_in_any_case_and_words_only_whole():
    rules = filters(guardrails={"denied_words": ["c++", "secret"], "denied_patterns": [r"\d{16}"]})
    assert rules.refuse_input("t", "my SECRET plan")
    assert rules.refuse_output("t", "1234567812345678")
    assert rules.refuse_input("t", "secretary") is None


@covers("limits.per-tenant-filters")
def test_a_tenants_own_filters_stand_in_for_those_of_all():
    rules = filters(
        guardrails={"max_input_characters": 3},
        tenants={"acme": {"guardrails": {"max_output_characters": 5}}},
    )
    assert rules.refuse_input("other", "four")
    assert rules.refuse_input("acme", "four") is None
    assert rules.refuse_output("acme", "123456")


def test_the_operators_own_filter_is_asked_with_tenant_text_and_direction():
    rules = filters(guardrails={"filter": f"{__name__}:no_shouting"})
    assert rules.refuse_input("t", "HELLO") == "no shouting"
    assert rules.refuse_output("t", "HELLO") is None


def test_a_filter_that_breaks_refuses():
    assert filters(guardrails={"filter": f"{__name__}:breaks"}).refuse_input("t", "x")


@pytest.mark.parametrize("target", ["nowhere:f", "math:nothing", "math:pi"])
def test_a_filter_that_cannot_be_had_stops_the_start(target):
    with pytest.raises(ConfigurationWrong, match=r"guardrails\.filter"):
        filters(guardrails={"filter": target})
