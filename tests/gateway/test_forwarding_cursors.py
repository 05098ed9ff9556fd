"""A cursor of a list over all nodes leads back to its place, for its tenant, and says nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.errors import InvalidArgument
from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.forwarding.list_cursors import ListCursors

FENCES = st.integers(0, 2**53)


@given(FENCES, st.sampled_from(["acme", "umbrella", "a"]))
def test_a_cursor_leads_back_to_its_fence(fence, tenant_id):
    cursors = ListCursors(b"secret")
    cursor = cursors.cursor(fence, tenant_id=tenant_id)
    assert ListCursors(b"secret").fence(cursor, tenant_id=tenant_id) == fence


@settings(max_examples=200)
@given(FENCES, st.integers(0, 127))
def test_a_cursor_that_is_changed_is_none(fence, place):
    cursors = ListCursors(b"secret")
    content = bytearray(urlsafe_text.decoded(cursors.cursor(fence, tenant_id="acme")))
    content[place // 8] ^= 1 << place % 8
    with pytest.raises(InvalidArgument):
        cursors.fence(urlsafe_text.encoded(bytes(content)), tenant_id="acme")


@given(FENCES)
def test_a_cursor_of_another_tenant_or_cluster_is_none(fence):
    cursor = ListCursors(b"secret").cursor(fence, tenant_id="acme")
    for cursors, tenant_id in ((ListCursors(b"secret"), "b"), (ListCursors(b"other"), "acme")):
        with pytest.raises(InvalidArgument):
            cursors.fence(cursor, tenant_id=tenant_id)
