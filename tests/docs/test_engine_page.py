"""The page about the engine says what the code does."""

import re

from docs.pages import page
from frontdesk.cluster.records import BURY_BATCH, LOG_ENTRIES
from frontdesk.cluster.valkey.driver import FIRST_PAUSE_S, LAST_PAUSE_S, MAX_JOINT, STALL_S
from frontdesk.cluster.valkey.keys import account_rules
from frontdesk.cluster.valkey.server_status import LEAST_REDIS, LEAST_VALKEY

PAGE = page("docs/how-to/engine.md").text


def test_the_accounts_rules_are_those_that_the_tests_use():
    (shown,) = re.findall(r"ACL SETUSER frontdesk on >the-password (.*?)\n```", PAGE, re.DOTALL)
    assert tuple(shown.replace("\\\n", " ").split()) == account_rules("frontdesk")


def test_the_bounds_are_those_of_the_code():
    assert f"Valkey {LEAST_VALKEY} or a Redis {LEAST_REDIS}" in PAGE
    assert f"{LOG_ENTRIES:,} entries" in PAGE
    assert f"one script of {MAX_JOINT} at most" in PAGE
    assert f"takes {BURY_BATCH} at a time" in PAGE
    assert f"for {STALL_S:g} s is made anew" in PAGE
    assert (FIRST_PAUSE_S, LAST_PAUSE_S) == (0.02, 0.5)
    assert "pauses of 20 ms to half a second" in PAGE
