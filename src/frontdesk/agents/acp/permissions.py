"""Permissions: what an agent is about to do as a client is shown it, and the options for an answer.

An agent shows what it will do wherever it likes: in the arguments, in the call's content, or only
in what it reported of the call before. A client that sees a part of it approves blindly.
"""

from __future__ import annotations

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
