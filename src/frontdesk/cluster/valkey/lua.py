"""Scripts: each verb's file, with the parts that it uses put before it.

A file begins with the flags that the server reads (`#!lua`), then names its parts, then says what
it is. A server knows a script by the SHA-1 of its text, and takes the text where it has forgotten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

__all__ = ["VERBS", "Script", "composed", "script"]

VERBS = (
    "admission",
    "bury",
    "claim",
    "count",
    "create",
    "end",
    "follow",
    "join",
    "leave",
    "list",
    "nodes",
    "publish",
    "read",
    "release",
    "renew",
    "reserve",
    "restore",
    "take",
    "totals",
    "update",
)

_FOLDER = files("frontdesk.cluster.valkey") / "scripts"
_HEAD = re.compile(r"(?P<flags>#!lua.*\n)--@ uses: (?P<parts>[a-z, ]+)\n")


@dataclass(frozen=True, slots=True)
class Script:
    """A script as a server has it.

    Attributes:
        name (str): The verb.
        text (str): All of it.
        sha (str): What the server calls it.
    """

    name: str
    text: str
    sha: str


def composed(name: str, text: str) -> Script:
    """Return the script of a text."""
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@cache
def script(name: str) -> Script:
    """Return a verb's script; reads its files the first time."""
    text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    head = _HEAD.match(text)
    assert head is not None, f"{name}.lua does not begin as scripts do"
    names = () if head["parts"] == "nothing" else head["parts"].split(", ")
    parts = (_FOLDER / "parts" / f"{name}.lua" for name in names)
    used = "".join(part.read_text(encoding="utf-8") for part in parts)
    return composed(name, head["flags"] + used + text[head.end() :])
