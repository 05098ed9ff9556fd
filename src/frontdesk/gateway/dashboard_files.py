"""The dashboard's files as they are answered: read once, compressed once, known by their content.

Comments of our scripts, and how they are indented, are left out on the way: a tenth of what a page
would load.

Between the files (`frontdesk.dashboard`) and their route.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
"""What the page may do, as a Content-Security-Policy."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE = "index.html"
AS_SHIPPED = "lit-html/"
"""What is not ours is answered as its authors ship it."""
FOR_READERS = re.compile(rb"^(?: *(?://|/\*).*$| +\*(?: |/|$).*$| +)", re.MULTILINE)
"""What a line begins with, and lines that are only a comment: not for a browser.

A `*` at the very beginning is none: a rule of styles may begin so.
"""
GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")
"""In `Accept-Encoding`, where it is not said to be unwanted."""


@dataclass(frozen=True, slots=True)
class ServedFile:
    """One file: its content, as it is and compressed, its type, and what tells it from others."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    def is_known(self, if_none_match: str) -> bool:
        """Say whether a client has it already, by its `If-None-Match`."""
        return self.etag.removeprefix("W/") in if_none_match or if_none_match.strip() == "*"


def dashboard_files() -> Mapping[str, ServedFile]:
    """Read the files, by their paths below the folder."""
    found: dict[str, ServedFile] = {}
    waiting: list[tuple[str, Traversable]] = [("", files("frontdesk.dashboard"))]
    while waiting:
        prefix, folder = waiting.pop()
        for each in folder.iterdir():
            suffix = each.name[each.name.rfind(".") :]
            if each.is_dir():
                waiting.append((f"{prefix}{each.name}/", each))
            elif suffix in TYPES:
                content = each.read_bytes()
                if suffix in (".js", ".css") and not prefix.startswith(AS_SHIPPED):
                    # The lines stay, empty, so that their numbers are those of the source.
                    content = FOR_READERS.sub(b"", content)
                found[prefix + each.name] = _read(content, TYPES[suffix])
    return MappingProxyType(found)


def _read(content: bytes, media_type: str) -> ServedFile:
    digest = hashlib.sha256(content).hexdigest()[:16]
    # Without a time in it: the same file is the same everywhere. The tag is a weak one, as it is
    # that of both forms.
    return ServedFile(content, gzip.compress(content, mtime=0), media_type, f'W/"{digest}"')
