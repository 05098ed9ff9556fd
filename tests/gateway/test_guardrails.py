"""Filters by size, words, patterns and the operator's own function, for each tenant."""

import random
import sys
import unicodedata
from itertools import pairwise
from time import thread_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from frontdesk.gateway.errors import ConfigurationWrong
from frontdesk.gateway.guardrails import NOT_CHECKED, TenantGuardrails
from frontdesk.gateway.patterns import MAX_SEARCH_S, SPAN_CHARACTERS, folded
from frontdesk.gateway.settings import Config
from frontdesk.sessions.errors import GuardrailRefused
from frontdesk.sessions.hooks import PENDING, MessageSoFar
from frontdesk.sessions.output_filter import OutputFilter
from gateway.requirements import covers


def no_shouting(tenant_id, text, direction):
    return "no shouting" if text.isupper() and direction == "input" else None


def breaks(tenant_id, text, direction):
    raise RuntimeError("the filter itself is broken")


def filters(**tables):
    return TenantGuardrails(Config(**tables))


def message(text, *, complete=True):
    """Return a message that is no longer than this text."""
    return MessageSoFar(text, len(text), complete)


def test_words_and_patterns_are_found_in_any_case_and_words_only_whole():
    rules = filters(guardrails={"denied_words": ["c++", "secret"], "denied_patterns": [r"\d{16}"]})
    assert rules.refuse_input("t", "my SECRET plan")
    assert rules.refuse_output("t", message("1234567812345678"))
    assert rules.refuse_input("t", "secretary") is None


@covers("limits.per-tenant-filters")
def test_a_tenants_own_filters_stand_in_for_those_of_all():
    rules = filters(
        guardrails={"max_input_characters": 3},
        tenants={"acme": {"guardrails": {"max_output_characters": 5}}},
    )
    assert rules.refuse_input("other", "four")
    assert rules.refuse_input("acme", "four") is None
    assert rules.refuse_output("acme", message("123456"))


def test_the_operators_own_filter_is_asked_with_tenant_text_and_direction():
    rules = filters(guardrails={"filter": f"{__name__}:no_shouting"})
    assert rules.refuse_input("t", "HELLO") == "no shouting"
    assert rules.refuse_output("t", message("HELLO")) is None


def test_a_filter_that_breaks_refuses():
    assert filters(guardrails={"filter": f"{__name__}:breaks"}).refuse_input("t", "x")


@pytest.mark.parametrize("target", ["nowhere:f", "math:nothing", "math:pi"])
def test_a_filter_that_cannot_be_had_stops_the_start(target):
    with pytest.raises(ConfigurationWrong, match=r"guardrails\.filter"):
        filters(guardrails={"filter": target})


# -- what is denied ------------------------------------------------------------------------------

TEXTS = [
    # denied words, text, refused
    (["secret"], "the Secret.", True),
    (["secret"], "secretary", False),
    (["secret"], "top_secret", False),
    (["secret"], "(secret)", True),
    (["c++"], "I like C++", True),
    (["c++"], "c++20", True),
    (["@home"], "me@home now", True),
    (["top secret"], "TOP\n  secret", True),
    (["  secret "], "a secret", True),
    (["straße"], "EINE STRASSE", True),
    (["STRASSE"], "eine Straße", True),
    (["caf\u00e9"], "CAFE\u0301", True),
    (["cafe"], "caf\u00e9", False),
    (["cafe"], "cafe\u0301", False),
    (["σοφος"], "ΣΟΦΟΣ σοφός", True),
    # In many scripts a word has marks in it, which `\\b` takes for its end.
    (["हिन"], "हिन्दी", False),
    (["हिन्दी"], "एक हिन्दी है", True),
    (["می"], "می\u200cخواهم", False),  # noqa: RUF001
]


@pytest.mark.parametrize(("words", "text", "refused"), TEXTS)
def test_a_denied_word_is_found_where_it_stands_alone_in_any_spelling(words, text, refused):
    rules = filters(guardrails={"denied_words": words})
    assert (rules.refuse_input("t", text) is not None) is refused
    assert (rules.refuse_output("t", message(text)) is not None) is refused


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"denied_words": [" "]}, "at least one character"),
        ({"denied_patterns": ["("]}, "not a regular expression of RE2"),
        ({"denied_patterns": ["(?=x)y"]}, "not a regular expression of RE2"),
        ({"denied_patterns": [r"(a)\1"]}, "not a regular expression of RE2"),
        ({"denied_patterns": ["a{1001}"]}, "not a regular expression of RE2"),
    ],
)
def test_what_cannot_be_looked_for_in_linear_time_is_refused_at_the_start(setting, problem):
    with pytest.raises(ValidationError, match=problem):
        Config(guardrails=setting)


@pytest.mark.parametrize("setting", [{"denied_words": ["a"]}, {"denied_patterns": ["a"]}])
def test_without_re2_the_start_says_which_extra_brings_it(monkeypatch, setting):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValidationError, match=r"pip install 'frontdesk\[guardrails\]'"):
        Config(guardrails=setting)
    assert filters(guardrails={"max_input_characters": 3}).refuse_input("t", "four")


def test_words_are_many_and_cost_little():
    rules = filters(guardrails={"denied_words": [f"denied{n}" for n in range(3000)]})
    assert rules.refuse_input("t", "denied3000 " * 20_000) is None
    assert rules.refuse_input("t", "denied3000 " * 20_000 + "denied2999")


# -- whatever the text, the loop is not held ------------------------------------------------------

ORDINARY = [r"[a-z0-9._]+@[a-z0-9.]+\.[a-z]+", r"(\w+\s?)+!", r"(a+)+$x", r".*=.*;.*", r"\s+$y"]


@pytest.mark.parametrize("pattern", ORDINARY)
@pytest.mark.parametrize("letters", ["a", "a ", " ", "é", "=a"])
def test_an_ordinary_pattern_takes_the_time_of_the_text_and_not_its_square(pattern, letters):
    rules = filters(guardrails={"denied_patterns": [pattern]})

    def took_s(text):
        before = thread_time()
        assert rules.refuse_input("t", text) is None
        return thread_time() - before

    short, long = letters * (4_000 // len(letters)), letters * (200_000 // len(letters))
    took_s(short)
    # Fifty times the text. The square would be 2,500 times the time.
    assert min(took_s(long) for _ in range(3)) < 250 * max(took_s(short) for _ in range(3))


@pytest.mark.parametrize("complete", [True, False])
def test_a_text_that_cannot_be_looked_at_in_time_is_refused(complete):
    """`a.{1000}b` is linear too, at thousands of steps a character."""
    rules = filters(guardrails={"denied_patterns": ["a.{1000}b"]})
    text = "".join(random.Random(1).choices("secrtpaswod ", k=1_000_000))
    before = thread_time()
    assert rules.refuse_output("t", message(text, complete=complete)) == NOT_CHECKED
    # The bound, and the last look, which is one of a few thousand characters.
    assert thread_time() - before < 20 * MAX_SEARCH_S


# -- a message on its way out ---------------------------------------------------------------------


def on_its_way(rules, pieces):
    """Return what went out of a message, and whether it was refused."""
    each, sent = OutputFilter(rules, "t"), []
    try:
        for piece in pieces:
            sent += each.feed(piece)
        sent += each.end("")
    except GuardrailRefused:
        return "".join(sent), True
    return "".join(sent), False


def cut(text, places):
    """Cut a text at these places."""
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(marks)]


def in_words(character):
    return unicodedata.category(character)[0] in "LNM" or character in "_\u200c\u200d"


def denied_ends(words, text):
    """Return where each denied word in a text ends, as the property has it, without RE2."""
    text, ends = folded(text), []
    for word in map(folded, words):
        at = text.find(word)
        while at >= 0:
            end = at + len(word)
            begins = at == 0 or not in_words(word[0]) or not in_words(text[at - 1])
            if begins and (end == len(text) or not in_words(word[-1]) or not in_words(text[end])):
                ends.append(end)
            at = text.find(word, at + 1)
    return ends


WORDS = ("secret", "se", "c++", "a b", "straße", "cafe\u0301", "हिन")
ALPHABET = "secrtSEC+ab ßSs.\ncafeé\u0301हिन्_\u200c9"
SHORT = st.text(st.sampled_from(ALPHABET), max_size=12) | st.sampled_from(WORDS)
MESSAGES = st.tuples(
    st.lists(SHORT, max_size=6).map("".join),
    # What stands before and behind, so that words lie around the edges of every window.
    st.integers(4070, 4120) | st.integers(8170, 8220) | st.integers(0, 30),
    st.sampled_from(["x", " ", "\u0301", "é "]),
    st.integers(0, 10) | st.integers(4080, 4110),
).map(lambda parts: (parts[2] * parts[1])[: parts[1]] + parts[0] + (parts[2] * parts[3]))


@settings(deadline=None)
@given(st.sets(st.sampled_from(WORDS)), MESSAGES, st.lists(st.integers(0, 20_000), max_size=12))
@example({"secret"}, "secretary", [6])
@example({"secret"}, "secret ary", [6])
@example({"secret"}, "x" * 4096 + "secret ", [4096])
@example({"secret"}, "x" * 4096 + "secretsecret ", [4096, 4102])
@example({"secret"}, "x" * 4094 + " secret", [4095, 4101])
def test_an_answer_is_stopped_at_a_denied_word_wherever_it_is_cut_and_nowhere_else(
    words, text, places
):
    rules = filters(guardrails={"denied_words": sorted(words)})
    sent, refused = on_its_way(rules, cut(text, places))
    ends = denied_ends(words, text)
    assert refused is bool(ends)
    assert text.startswith(sent)
    assert refused or sent == text
    assert not [end for end in ends if end <= len(folded(sent))]
    assert (rules.refuse_input("t", text) is not None) is refused


@settings(deadline=None)
@given(
    st.text(st.sampled_from("ab1 ."), max_size=14),
    st.integers(0, 6) | st.integers(4085, 4100),
    st.lists(st.integers(0, 5000), max_size=8),
)
def test_patterns_find_in_pieces_what_they_find_in_the_whole(text, before, places):
    """Those among them that ask what stands before, behind, at the beginning or at the end."""
    text = "x" * before + text
    for pattern in (r"^a", r"a$", r"\ba\b", r"\Ba\B", r"b\B", r"1{3}", r"(?m:b$)", "a.?b", r"\z"):
        rules = filters(guardrails={"denied_patterns": [pattern]})
        _, refused = on_its_way(rules, cut(text, places))
        whole = rules.refuse_output("t", message(text)) is not None
        assert refused is (whole and bool(text)), pattern


@pytest.mark.parametrize("at", [0, 1, 95, 96, 97, 3999, 4000, 4001, 7999, 8003, 8004, 8005, 12_345])
def test_a_match_as_long_as_the_span_is_found_anywhere_in_a_text_and_at_any_cut(at):
    rules = filters(guardrails={"denied_patterns": [r"\ba[^a]*a\b"]})
    match = "a" + "." * (SPAN_CHARACTERS - 2) + "a"
    text = " " * at + match + " " * 100
    assert rules.refuse_input("t", text)
    assert on_its_way(rules, cut(text, [at, at + 2000, at + SPAN_CHARACTERS - 1]))[1]
    assert on_its_way(rules, [text[:at], *match, " "])[1]
    near = text.replace(match, "b" + match + "b")
    assert rules.refuse_input("t", near) is None
    assert on_its_way(rules, cut(near, [at, at + 2000, at + SPAN_CHARACTERS])) == (near, False)


def test_what_is_undecided_waits_and_no_longer_than_it_may():
    rules = filters(guardrails={"denied_words": ["secret"], "denied_patterns": ["z+$"]})
    assert rules.refuse_output("t", message("a secret", complete=False)) is PENDING
    each = OutputFilter(rules, "t")
    assert each.feed("a secret") == []
    assert each.feed("ary") == ["a secret", "ary"]
    sent = [piece for _ in range(300) for piece in each.feed("z" * 100)]
    assert len("".join(sent)) > 25_000
    with pytest.raises(GuardrailRefused):
        each.end("")


def test_the_longest_message_is_counted_over_its_pieces():
    rules = filters(guardrails={"max_output_characters": 10})
    assert on_its_way(rules, ["12345", "67890"]) == ("1234567890", False)
    assert on_its_way(rules, ["12345", "67890", "1"]) == ("1234567890", True)
