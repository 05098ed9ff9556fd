"""The documents as data: pages with their code blocks, headings and links.

Below the tests of this folder. It knows Markdown as far as these documents use it (fenced blocks,
`#` headings, inline links), and nothing of what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>[\w-]*)\s*$")
_HEADING = re.compile(r"^(?P<marks>#{1,6})\s+(?P<text>.+?)\s*$")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE_SPAN = re.compile(r"(`+)(?P<code>.+?)\1")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, in which language, under which heading, below which line."""

    page: str
    line: int
    language: str
    heading: str
    above: str
    source: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file of the repository."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """The whole page."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The fenced blocks, in order."""
        return tuple(self._read_blocks())

    @cached_property
    def prose(self) -> tuple[str, ...]:
        """The lines that are in no block."""
        return tuple(line for line, language in self._lines() if language is None)

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """The texts of the headings, in order, as they are written."""
        return tuple(found["text"] for line in self.prose if (found := _HEADING.match(line)))

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What a link may name after `#`."""
        return frozenset(anchor_of(heading) for heading in self.headings)

    @cached_property
    def links(self) -> tuple[str, ...]:
        """The targets of the links, in order."""
        prose = "\n".join(_CODE_SPAN.sub("", line) for line in self.prose)
        return tuple(found["target"] for found in _LINK.finditer(prose))

    @cached_property
    def code_spans(self) -> frozenset[str]:
        """What stands in the prose as code."""
        prose = "\n".join(self.prose)
        return frozenset(found["code"].strip() for found in _CODE_SPAN.finditer(prose))

    def rows(self, *, under: str = "") -> list[list[str]]:
        """Return the cells of all table rows, headers and rules left out; of one section only
        where `under` is the text of its heading.
        """
        lines = self.prose if not under else self._section(under)
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            for line in lines
            if line.lstrip().startswith("|")
        ]
        rules = [index for index, row in enumerate(rows) if set("".join(row)) <= set("-: ")]
        dropped = {*rules, *(index - 1 for index in rules)}
        return [row for index, row in enumerate(rows) if index not in dropped]

    def shown_below(self, block: Block) -> str | None:
        """Return the output that the page shows right below a block; None where it shows none."""
        following = self.blocks[self.blocks.index(block) + 1 :]
        shows = following and following[0].language == "output"
        return following[0].source if shows else None

    def _section(self, heading: str) -> tuple[str, ...]:
        start = next(i for i, line in enumerate(self.prose) if line.lstrip("# ").strip() == heading)
        end = next(
            (i for i in range(start + 1, len(self.prose)) if _HEADING.match(self.prose[i])), None
        )
        return self.prose[start + 1 : end]

    def _lines(self) -> Iterator[tuple[str, str | None]]:
        """Each line, and the language of the block that it is in (its fences included)."""
        language: str | None = None
        for line in self.text.splitlines():
            fence = _FENCE.match(line)
            if language is None and fence:
                language = fence["language"]
                yield line, language
            elif fence:
                yield line, language
                language = None
            else:
                yield line, language

    def _read_blocks(self) -> Iterator[Block]:
        source: list[str] = []
        heading, above, start, language = "", "", 0, None
        for number, line in enumerate(self.text.splitlines(), start=1):
            fence = _FENCE.match(line)
            if language is None and fence:
                language, start, source = fence["language"], number, []
            elif fence and language is not None:
                body = "\n".join(source) + "\n"
                yield Block(str(self), start, language, heading, above, body)
                language = None
            elif language is not None:
                source.append(line)
            elif line:
                above = line
                found = _HEADING.match(line)
                heading = found["text"] if found else heading
        if language is not None:
            raise ValueError(f"{self}:{start}: the block has no end")


def anchor_of(heading: str) -> str:
    """Return the anchor that a heading gets: as GitHub makes it."""
    text = heading.replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _all_pages() -> tuple[Page, ...]:
    return tuple(
        Page(path) for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")))
    )


PAGES = _all_pages()
"""README and its neighbours, then everything under `docs/`."""


HOSTED_ELSEWHERE = "docs/how-to/host-elsewhere.md"
"""Its programs run in hosts whose packages are not in this environment: see `tests/hosting`."""


def page(name: str) -> Page:
    """Return a page by its path from the root of the repository."""
    return Page(ROOT / name)


def blocks_in(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages."""
    return [block for one in PAGES for block in one.blocks if block.language in languages]


def commands_of(block: Block, *, whole: bool = False) -> list[str]:
    """Return the command lines of a shell block: continued lines joined, comments left out.

    Without `whole` the variables that are set before a command are left out, too.
    """
    joined = re.sub(r"\\\n\s*", "", block.source)
    lines = [line.split(" #")[0].strip() for line in joined.splitlines()]
    if not whole:
        lines = [re.sub(r"^(?:[A-Z_]+=(?:\"[^\"]*\"|[^\s\"]+) )+", "", line) for line in lines]
    return [line for line in lines if line]
