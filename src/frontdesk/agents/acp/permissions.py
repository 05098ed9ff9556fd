"""Permissions: what an agent is about to do as a client is shown it, and which option a client's
answer stands for.

An agent shows what it will do wherever it likes: in the arguments, in the call's content, or only
in what it reported of the call before. A client that sees a part of it approves blindly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from acp.schema import (
    ContentToolCallContent,
    FileEditToolCallContent,
    TerminalToolCallContent,
    TextContentBlock,
    ToolCallLocation,
)

from frontdesk.agents.records import ApprovalDetails, ApprovalLocation, ApprovalOption
from frontdesk.agents.values import encodable

MAX_TEXT_CHARACTERS = 64 * 1024
"""Characters of one text that is shown, a side of a diff for instance."""

MAX_SHOWN_CHARACTERS = 192 * 1024
"""Characters of all the texts that are shown of one call."""

MAX_SHOWN = 100
"""Pieces of content, and locations, that are shown of one call."""

MAX_OPTIONS = 20

MAX_LINE_CHARACTERS = 2000
"""Characters of a title, a path, the name of an option."""

_ENDS_THE_TURN = re.compile(
    r"(?<![a-z])(?:abort|cancel|cancell?ed|stop|interrupt|quit|exit|end)(?![a-z])"
    r"|tell \w+ what|(?<![a-z])and (?:stop|provide feedback)",
    re.IGNORECASE,
)

_ORDER = {True: ("allow_once", "allow_always"), False: ("reject_once", "reject_always")}


def option_for(approved: bool, options: Sequence[ApprovalOption]) -> str | None:
    """Return the option that an answer stands for; None if there is none.

    Once rather than always. Of several ways to say no, one that lets the agent go on with its turn
    rather than one that ends it, as its name tells: the protocol has no word for that.

    >>> option_for(True, [ApprovalOption("a", "A", "allow_always")])
    'a'
    >>> stop = ApprovalOption("abort", "No, and stop", "reject_once")
    >>> option_for(False, [stop, ApprovalOption("deny", "No", "reject_once")])
    'deny'
    """
    found = [each for kind in _ORDER[approved] for each in options if each.kind == kind]
    if not approved:
        found.sort(key=ends_the_turn)
    return found[0].option_id if found else None


def ends_the_turn(option: ApprovalOption) -> bool:
    """Say whether an option to say no also ends the turn, as far as its name and id tell.

    >>> ends_the_turn(ApprovalOption("reject", "No, and tell Codex what to do", "reject_once"))
    True
    >>> ends_the_turn(ApprovalOption("reject", "No, continue without", "reject_once"))
    False
    """
    return any(_ENDS_THE_TURN.search(text) for text in (option.option_id, option.name))


class Excerpts:
    """Collect what a client is shown of one call, within bounds; what is cut says so."""

    def __init__(self) -> None:
        self._left = MAX_SHOWN_CHARACTERS

    def details(
        self,
        *,
        title: str | None,
        kind: str | None,
        content: Sequence[Any],
        locations: Sequence[ToolCallLocation],
        options: Sequence[ApprovalOption],
    ) -> ApprovalDetails:
        """Return it as an approval carries it."""
        return ApprovalDetails(
            title=None if title is None else line_of(title),
            kind=kind,
            content=tuple(self._content(content[:MAX_SHOWN])),
            locations=tuple(
                ApprovalLocation(line_of(each.path), each.line) for each in locations[:MAX_SHOWN]
            ),
            options=tuple(options),
        )

    def _content(self, content: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for each in content:
            match each:
                case ContentToolCallContent(content=TextContentBlock() as block):
                    yield {"type": "text", "text": self._text(block.text)}
                case FileEditToolCallContent():
                    old = None if each.old_text is None else self._text(each.old_text)
                    new = self._text(each.new_text)
                    path = line_of(each.path)
                    yield {"type": "diff", "path": path, "oldText": old, "newText": new}
                case TerminalToolCallContent():
                    yield {"type": "terminal", "terminalId": line_of(each.terminal_id)}
                case ContentToolCallContent():
                    yield {"type": each.content.type}
                case _:
                    pass  # what is of a kind that is not known shows nothing

    def _text(self, text: str) -> str:
        kept = text[: min(MAX_TEXT_CHARACTERS, self._left)]
        self._left -= len(kept)
        if len(kept) < len(text):
            kept += f"… [{len(text) - len(kept)} characters left out]"
        return encodable(kept)


def offered_options(options: Any) -> tuple[ApprovalOption, ...]:
    """Return the options that an agent offers, those of kinds that are not known included.

    >>> offered_options([{"optionId": "a", "name": "A", "kind": "allow_once"}, {"name": "B"}, 1])
    (ApprovalOption(option_id='a', name='A', kind='allow_once'),)
    """
    found = []
    for each in options if isinstance(options, list) else ():
        if isinstance(each, dict) and isinstance(each.get("optionId"), str):
            name, kind = each.get("name"), each.get("kind")
            found.append(
                ApprovalOption(
                    encodable(each["optionId"]),
                    line_of(name) if isinstance(name, str) else "",
                    line_of(kind) if isinstance(kind, str) else "",
                )
            )
    return tuple(found[:MAX_OPTIONS])


def line_of(text: str) -> str:
    """Return the beginning of a text that should be short."""
    return encodable(text[:MAX_LINE_CHARACTERS])
