"""What may not be said: words and patterns that are looked for in texts of callers, by RE2.

Time is linear in the text, whatever the pattern: `re` takes the square of it, or worse, for
ordinary ones, and holds the interpreter meanwhile. Whatever is slow even so, a long repetition for
one, is cut off by a bound of time: a text is looked at in windows, and one that has taken too
long cannot be checked.

A text may be the middle of a message that goes on. Then a match at its end may depend on what
comes: `secret` is a whole word, `secretary` is another one.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto

from frontdesk.errors import MissingExtra

SPAN_CHARACTERS = 4000
"""What is found in any text and at any cut: a pattern's match is no longer than this."""

WINDOW_CHARACTERS = 2 * SPAN_CHARACTERS + 4
"""One look: two spans, so that each match is whole in one, with a character on both sides."""

MAX_SEARCH_S = 0.05
"""Time of the processor for one text. What is ordinary takes a hundredth of it."""

MAX_PROGRAM_BYTES = 64 * 1024 * 1024
"""For one compiled expression and its cache; some thousands of words need a tenth."""

_WORD = r"\p{L}\p{N}\p{M}_\x{200C}\x{200D}"
"""What words are made of (UTS 18): the marks of many scripts, and what joins letters, as well."""

_BLANK = r"[\s\p{Z}]+"
_AFTERWARDS = ("a", " ", "\n")
"""What may come next, as far as `\\b`, `\\B` and `$` can tell."""

_Search = Callable[[str, int], object]


class Found(Enum):
    """What a look at a text has found."""

    NOTHING = auto()
    DENIED = auto()
    DEPENDS = auto()
    """Denied or not, by what comes next."""


class TooSlow(Exception):
    """A text took more than its time."""


class Denied:
    """The words and patterns that texts are searched for, in any case."""

    __slots__ = ("_expressions",)

    def __init__(self, words: Iterable[str], patterns: Iterable[str]) -> None:
        """Compile them; `ValueError` where they are too many, or one is wrong."""
        words = tuple(words)
        whole = whole_words(words) if words else ""
        either = "|".join(f"(?:{pattern})" for pattern in patterns)
        made = [_Expression(whole, fold=folded) if whole else None]
        made += [_Expression(either, fold=str) if either else None]
        self._expressions = [each for each in made if each is not None]

    def search(self, text: str, *, begins: bool = True, complete: bool = True) -> Found:
        """Look for what is denied; `TooSlow` where that takes too long.

        A text that does not begin its message has something before it: its first character only
        tells what the second one follows. One that does not complete it goes on somehow.
        """
        until = time.thread_time() + MAX_SEARCH_S
        found = Found.NOTHING
        for expression in self._expressions:
            for each in expression.steps(text, begins=begins, complete=complete):
                if each is Found.DENIED:
                    return each
                if each is Found.DEPENDS:
                    found = each
                if time.thread_time() > until:
                    raise TooSlow
        return found


class _Expression:
    """One expression, and the same with a character behind it.

    What the second finds is found whatever comes next.
    """

    __slots__ = ("_and_more", "_fold", "_mid_word", "_now")

    def __init__(self, source: str, *, fold: Callable[[str], str]) -> None:
        self._now, self._and_more = compiled(source), compiled(f"(?:{source})(?s:.)")
        self._fold = fold
        self._mid_word = r"\B" in source
        """Whether it may find at the end of a text what it does not find where that is the end."""

    def steps(self, text: str, *, begins: bool, complete: bool) -> Iterator[Found]:
        """Yield what each step has found, so that the time can be looked at between them."""
        start = 0
        while len(text) - start > WINDOW_CHARACTERS:
            window = self._fold(text[start : start + WINDOW_CHARACTERS])
            behind = 0 if begins and start == 0 else 1
            yield Found.DENIED if self._and_more(window, behind) else Found.NOTHING
            start += SPAN_CHARACTERS
        last = self._fold(text[start:])
        behind = 0 if begins and start == 0 else 1
        answers = [bool(self._now(last, behind))]
        if complete or not (answers[0] or self._mid_word):
            yield Found.DENIED if answers[0] else Found.NOTHING
            return
        for afterwards in _AFTERWARDS:
            yield Found.NOTHING
            answers.append(bool(self._and_more(last + afterwards, behind)))
        if any(answers):
            yield Found.DENIED if all(answers) else Found.DEPENDS


def compiled(source: str) -> _Search:
    """Return what searches a text from an offset on; `ValueError` where RE2 does not take it."""
    try:
        import re2
    except ImportError as missing:
        raise MissingExtra(
            "guardrails", part="what is denied by words or patterns", missing="google-re2"
        ) from missing
    try:
        if hasattr(re2, "Options"):
            options = re2.Options()
            options.case_sensitive, options.log_errors = False, False
            options.max_mem = MAX_PROGRAM_BYTES
            made = re2.compile(source, options)
        else:
            made = re2.compile(source, re2.IGNORECASE | re2.ASCII, MAX_PROGRAM_BYTES)
    except re2.error as error:
        problem = error.args[0]
        problem = problem.decode(errors="replace") if isinstance(problem, bytes) else str(problem)
    else:
        # The other one gives to `re` what RE2 does not take.
        if not isinstance(made, getattr(re2, "FallbackPattern", ())):
            search: _Search = made.search
            return search
        problem = "it takes more than linear time"
    raise ValueError(f"not a regular expression of RE2: {problem}")


def folded(text: str) -> str:
    """Return a text as words are compared: without case, and each character spelt one way.

    >>> folded("STRASSE") == folded("straße"), folded("caf\\u00e9") == folded("CAFE\\u0301")
    (True, True)
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", text.casefold())


def whole_words(words: Iterable[str]) -> str:
    """Return an expression for words where they stand alone, whatever blanks are inside them."""
    is_letter = compiled(f"^[{_WORD}]")
    by_sides: dict[tuple[str, str], list[str]] = {}
    for word in words:
        parts = folded(word).split()
        before = f"(?:^|[^{_WORD}])" if is_letter(parts[0], 0) else ""
        after = f"(?:$|[^{_WORD}])" if is_letter(parts[-1][-1], 0) else ""
        # Together: a class of all letters is large, and many words have the same at their sides.
        by_sides.setdefault((before, after), []).append(_BLANK.join(map(re.escape, parts)))
    return "|".join(
        f"{before}(?:{'|'.join(each)}){after}" for (before, after), each in by_sides.items()
    )
