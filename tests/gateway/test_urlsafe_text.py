"""Bytes as text that goes into an address."""

from __future__ import annotations

import base64
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from frontdesk.gateway import urlsafe_text


@given(st.binary(max_size=64))
def test_every_bytes_come_back(content):
    assert urlsafe_text.decoded(urlsafe_text.encoded(content)) == content


@given(st.text(alphabet="AQgw19-_+/= \n\u00e9", max_size=12))
def test_a_text_has_one_meaning_or_none(text):
    with contextlib.suppress(ValueError):
        content = urlsafe_text.decoded(text)
        assert base64.urlsafe_b64encode(content).decode().rstrip("=") == text
