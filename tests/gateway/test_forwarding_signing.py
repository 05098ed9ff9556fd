"""What one node signs another one takes, once, near its time, and nothing else for it."""

import hashlib
import hmac

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontdesk.gateway import urlsafe_text
from frontdesk.gateway.callers import Caller
from frontdesk.gateway.forwarding.claims import CallerClaims, HopClaims
from frontdesk.gateway.forwarding.nonces import SeenNonces
from frontdesk.gateway.forwarding.signing import (
    MAX_CLOCK_DIFFERENCE_S,
    HopRefused,
    HopSigner,
    digest_of_body,
    fresh_nonce,
)
from frontdesk.gateway.scopes import KeyScope
from frontdesk.sessions.tenant_sessions import OneConversation
from frontdesk.testing import ManualClock

SECRET = b"s" * 32
NOW_MS = ManualClock().wall_ms()
SKEW_MS = int(MAX_CLOCK_DIFFERENCE_S * 1000)


def claims(**changed):
    given = {
        "to": "a" * 32,
        "sender": "b" * 32,
        "at_ms": NOW_MS,
        "nonce": fresh_nonce(),
        "method": "POST",
        "target": "/v1/sessions/s1/prompt",
        "body_digest": digest_of_body(b"{}"),
        "deadline_ms": NOW_MS + SKEW_MS,
    }
    return HopClaims(**{**given, **changed})


def signer(clock=None, secret=SECRET):
    return HopSigner(secret, clock=clock or ManualClock())


def verified(envelope, by=None, *, method="POST", target="/v1/sessions/s1/prompt"):
    return (by or signer()).verify(envelope, method=method, target=target)


def test_what_was_signed_comes_out_as_it_went_in():
    sent = claims(headers=(("content-type", "application/json"), ("x", "ÿ\u2028")), prefix="/desk")
    assert verified(signer().sign(sent)) == sent


def test_a_request_is_taken_once():
    receiver, envelope = signer(), signer().sign(claims())
    verified(envelope, receiver)
    with pytest.raises(HopRefused, match="has come before"):
        verified(envelope, receiver)


def test_a_request_is_not_taken_again_for_as_long_as_its_time_would_do():
    clock = ManualClock()
    receiver = signer(clock)
    # Stamped by a clock that is as far ahead as may be, so it is good for longest.
    sent = claims(at_ms=NOW_MS + SKEW_MS, deadline_ms=NOW_MS + 3 * SKEW_MS)
    envelope = signer().sign(sent)
    verified(envelope, receiver)
    for _ in range(4 * int(MAX_CLOCK_DIFFERENCE_S)):
        clock.advance(1)
        with pytest.raises(HopRefused):
            verified(envelope, receiver)


@pytest.mark.parametrize("difference_ms", [SKEW_MS + 1, -SKEW_MS - 1])
def test_a_request_of_another_time_is_refused_and_told_to_set_the_clocks(difference_ms):
    sent = claims(at_ms=NOW_MS + difference_ms)
    with pytest.raises(HopRefused, match="set the clocks"):
        verified(signer().sign(sent))


@pytest.mark.parametrize("difference_ms", [SKEW_MS, -SKEW_MS])
def test_clocks_may_differ_by_so_much(difference_ms):
    verified(signer().sign(claims(at_ms=NOW_MS + difference_ms)))


def test_nothing_is_begun_after_its_deadline():
    with pytest.raises(HopRefused, match="deadline"):
        verified(signer().sign(claims(deadline_ms=NOW_MS - 1)))


@pytest.mark.parametrize("changed", [{"method": "DELETE"}, {"target": "/v1/sessions/s2/prompt"}])
def test_a_signature_is_good_for_one_method_and_target(changed):
    with pytest.raises(HopRefused, match="something else"):
        verified(signer().sign(claims()), **changed)


def test_another_secret_signs_nothing():
    with pytest.raises(HopRefused, match="not signed by a node"):
        verified(signer(secret=b"t" * 32).sign(claims()))


def test_the_secret_itself_is_not_the_key():
    content = msgspec.json.encode(claims())
    by_secret = hmac.digest(SECRET, content, hashlib.sha256)
    envelope = f"{urlsafe_text.encoded(content)}.{urlsafe_text.encoded(by_secret)}".encode()
    with pytest.raises(HopRefused, match="not signed by a node"):
        verified(envelope)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_bit_is_changed_it_is_refused(data):
    envelope = bytearray(signer().sign(claims()))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(HopRefused):
        verified(bytes(envelope))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_whatever_else_comes_is_refused(envelope):
    with pytest.raises(HopRefused):
        verified(envelope)


def test_what_is_too_long_is_refused_unread():
    with pytest.raises(HopRefused, match="too long"):
        verified(b"a" * 300_000)


def test_a_caller_arrives_with_its_rights_and_without_its_secret():
    digest = hashlib.sha256(b"the secret").digest()
    scopes = frozenset({KeyScope.READ, KeyScope.PROMPT})
    only = OneConversation("s1", 42)
    caller = Caller("k-acme", "acme", scopes, NOW_MS + 5, only, digest, "signing-key", True)
    sent = claims(caller=CallerClaims.of(caller, secret_tag=signer().secret_tag(digest)))
    envelope = signer().sign(sent)
    arrived = verified(envelope).caller.caller()
    assert arrived == Caller(
        "k-acme", "acme", scopes, NOW_MS + 5, only, b"", "signing-key", True, forwarded=True
    )
    content = urlsafe_text.decoded(envelope.partition(b".")[0].decode())
    assert digest.hex().encode() not in content
    assert digest not in content


def test_a_tag_names_a_secrets_hash_to_who_knows_it():
    here, there = signer(), signer()
    tag = here.secret_tag(b"one hash")
    assert there.is_tag_of(tag, b"one hash")
    assert not there.is_tag_of(tag, b"another")
    assert not signer(secret=b"t" * 32).is_tag_of(tag, b"one hash")


def test_an_error_of_the_form_is_no_crash():
    signed = msgspec.json.encode(["of another version"])
    envelope = signer().sign(claims())
    by = signer()
    key = by._key
    signature = hmac.digest(key, signed, hashlib.sha256)
    envelope = f"{urlsafe_text.encoded(signed)}.{urlsafe_text.encoded(signature)}".encode()
    with pytest.raises(HopRefused, match="does not know"):
        verified(envelope, by)


# -- nonces --------------------------------------------------------------------------------------


def test_a_nonce_is_remembered_for_a_while_and_then_costs_nothing():
    seen = SeenNonces(for_s=60)
    assert seen.add("a", now_s=0)
    assert not seen.add("a", now_s=59.9)
    assert seen.add("b", now_s=61)
    assert len(seen) == 1


def test_where_there_is_no_room_nothing_is_forgotten_but_refused():
    seen = SeenNonces(for_s=60, max_nonces=3)
    assert [seen.add(each, now_s=0) for each in "abcd"] == [True, True, True, False]
    assert not seen.add("a", now_s=1)
    assert seen.add("d", now_s=60)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 20)), max_size=60))
def test_no_nonce_is_let_in_twice_within_its_time(steps):
    seen, last, now = SeenNonces(for_s=60), {}, 0.0
    for nonce, later in steps:
        now += later
        expected = nonce not in last or now - last[nonce] >= 60
        assert seen.add(nonce, now_s=now) is expected
        if expected:
            last[nonce] = now
