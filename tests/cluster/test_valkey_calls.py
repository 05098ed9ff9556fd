"""Verbs as commands: what a connection sends for them."""

import pytest
import redis

from frontdesk.cluster.records import IndexLimits, NewEntry, Selection
from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import packed, packed_caller, words_of

ENTRY = NewEntry("t/ö", "n" * 32, "0" * 16, "t", None, 1, "b" * 9000, None, 1, minted=True)
CALLS = (
    [verbs.create(ENTRY, limits=IndexLimits(per_tenant=3))] * 2,
    [verbs.count(Selection())],
    [verbs.publish("usage", "m#0", b"\r\n$3\r\n\x00\xff")],
    [verbs.publish("usage", "m#0", b"")],
)


@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: calls[0].script.name)
def test_a_command_is_packed_as_redis_py_packs_it(calls):
    words = words_of(calls, "{ö}:meta", packed_caller("r" * 40, 2**53 - 1))
    assert packed(words) == b"".join(redis.Connection().pack_command(*words))
