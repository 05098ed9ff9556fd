"""What comes with a prompt beside its text: images, audio, files.

Their bytes go with the turn and no further: history, events and streams show what each is called,
of which type it is and how large. Which types an agent takes are patterns of its blueprint's.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec

_NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
MEDIA_TYPE = f"{_NAME}/{_NAME}"
"""A type without its parameters (RFC 6838)."""

TEXTS = ("text/*", "application/json", "application/xml", "application/yaml")
"""Types whose content is text; filters look at it."""


class AttachedFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is shown of an attachment: never its content. `size` is in bytes."""

    name: str
    media_type: str
    size: int


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that came with a prompt, whole. The repr leaves out its content.

    Examples:
        >>> Attachment(name="a.txt", media_type="text/plain", content=b"hello").size
        5
    """

    name: str
    media_type: str
    content: bytes

    @property
    def size(self) -> int:
        """Return the length of the content, in bytes."""
        return len(self.content)

    @property
    def without_content(self) -> AttachedFile:
        """Return what is shown of it."""
        return AttachedFile(name=self.name, media_type=self.media_type, size=self.size)

    @property
    def text(self) -> str | None:
        """Return the content of a file of text in UTF-8; None for any other."""
        if not matches(self.media_type, TEXTS):
            return None
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None

    def __repr__(self) -> str:
        return f"Attachment(name={self.name!r}, media_type={self.media_type!r}, size={self.size})"


def matches(media_type: str, patterns: Iterable[str]) -> bool:
    """Say whether a type is one of those that patterns (`image/*`) stand for.

    >>> matches("image/png", ("image/*",)), matches("text/html", ("image/*", "text/plain"))
    (True, False)
    """
    return any(fnmatchcase(media_type, pattern) for pattern in patterns)


def without_parameters(media_type: str) -> str:
    """Return a type as it is compared: in lower case, without `; charset=...` and the like.

    >>> without_parameters("audio/WebM;codecs=opus")
    'audio/webm'
    """
    return media_type.partition(";")[0].strip().lower()
