"""Ids of the house: composed and taken apart in one place, and refused where they cannot be."""

import pytest

from frontdesk import InvalidArgument
from frontdesk.agents.ids import (
    check_session_id,
    check_tenant,
    mint_session_id,
    registry_key,
    split,
)


@pytest.mark.parametrize("session_id", ["a", "A~z_9.-", "...", "x" * 128, "-", "0"])
def test_a_session_id_of_allowed_characters_comes_back_as_it_was(session_id):
    assert split(registry_key("acme", session_id)) == ("acme", session_id)


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        ".",
        "..",
        "a/b",
        "x" * 129,
        "a b",
        "ä",
        "a\n",
        "a\x00",
        "%2e",
        None,
        7,
        b"a",
        "x" * 10**6,
    ],
)
def test_an_impossible_session_id_is_refused(session_id):
    with pytest.raises(InvalidArgument) as refused:
        check_session_id(session_id)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "a b", "x" * 65, ".", None, "a\n"])
def test_an_impossible_tenant_is_refused(tenant):
    with pytest.raises(InvalidArgument):
        check_tenant(tenant)


def test_two_tenants_with_the_same_session_id_have_two_registered_ids():
    assert registry_key("acme", "s") != registry_key("globex", "s")


def test_no_session_id_makes_one_tenants_registered_id_anothers():
    with pytest.raises(InvalidArgument):
        registry_key("acme", "../globex/s")


def test_minted_ids_are_sixteen_lower_case_hex_digits_and_never_repeat():
    minted = {mint_session_id() for _ in range(1000)}
    assert len(minted) == 1000
    assert all(len(each) == 16 and int(each, 16) >= 0 and each == each.lower() for each in minted)
