"""The pictures of the documents that are drawn from the code: how a cluster is made, and its lease.

`make format` runs this with the tables; a test holds the pictures to it. The boxes have colours of
their own, so that they read on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from docs.pages import ROOT
from frontdesk.cluster.terms import LeaseTerms

IMAGES = ROOT / "docs/images"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
STYLE = """  <style>
    .name { font-size: 16px; font-weight: 600; fill: #1c1b29 }
    .about { font-size: 13px; fill: #3b3a4a }
    .arrow { stroke: #8a8a99; stroke-width: 2; fill: none }
    .head { fill: #8a8a99 }
    .word { font-size: 13px; fill: #77778a }
    rect { stroke: #8a8a99; stroke-width: 1 }
  </style>"""
NODES = ("n1", "n2", "n3")


def picture(title: str, about: str, height: int, drawn: Iterator[str]) -> str:
    """Return a whole picture, 720 wide."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" width="720" '
        f'height="{height}" role="img" aria-labelledby="title desc" font-family="{FONT}">'
    )
    named = f'  <title id="title">{title}</title>\n  <desc id="desc">{about}</desc>'
    return "\n".join([head, named, STYLE, *(f"  {line}" for line in drawn), "</svg>", ""])


def box(x: int, y: int, width: int, height: int, fill: str) -> str:
    """Return a box."""
    size = f'width="{width}" height="{height}"'
    return f'<rect x="{x}" y="{y}" {size} rx="8" fill="{fill}"/>'


def text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def down(x: float, y: float, length: float) -> str:
    """Return an arrow downwards; upwards where the length is below 0."""
    way = 5 if length > 0 else -5
    end = y + length
    return (
        f'<path class="arrow" d="M{x:g} {y:g}v{length - way:g}"/>'
        f'<path class="head" d="M{x - 5:g} {end - way:g}h10l-5 {way}z"/>'
    )


# -- the parts -------------------------------------------------------------------------------------


def parts() -> Iterator[str]:
    """Draw nodes, what they hold, and the engine below them."""
    yield text("word", 360, 22, "any request, to any node", "middle")
    for place, name in enumerate(NODES):
        x = 8 + place * 256
        yield down(x + 96, 32, 22)
        yield box(x, 58, 192, 96, "#dbe9fb")
        yield text("name", x + 14, 84, f"node {name}")
        yield text("about", x + 14, 108, "its sessions: the authority")
        yield text("about", x + 14, 130, "others' sessions: a cache")
        yield down(x + 40, 158, 70)
        yield down(x + 130, 228, -70)
        yield text("word", x + 48, 188, "create, end,")
        yield text("word", x + 48, 206, "renew")
        yield text("word", x + 138, 197, "the log")
        if place:
            yield f'<path class="arrow" d="M{x - 57} 106h50"/>'
            yield f'<path class="head" d="M{x - 7} 101v10l5-5z M{x - 57} 101v10l-5-5z"/>'
            yield text("word", x - 32, 96, "one hop", "middle")
    yield box(8, 232, 704, 96, "#fdeccb")
    yield text("name", 22, 258, "engine")
    yield text(
        "about", 22, 282, "the index: which id is whose, leases of the nodes, a log of changes"
    )
    yield text(
        "about", 22, 304, "It can be lost: the nodes tell it again. It knows no agent, no secret."
    )


# -- the lease -------------------------------------------------------------------------------------


def lease(terms: LeaseTerms) -> Iterator[str]:
    """Draw what becomes of a node that is not heard of, second by second."""
    isolated = terms.lease_s + terms.isolation_grace_s
    dead = terms.lease_s + terms.hold_s
    moments = (
        (0.0, "renewed", "it is alive", "it serves and creates"),
        (terms.lease_s, "lease over", "suspect: ids held back", "cut off: creates nothing"),
        (isolated, "isolation grace over", "still suspect", "stops chosen ids"),
        (dead, "hold over", "dead: `lost`, ids free", "joins anew, new fences"),
    )
    left, right = 130, 700
    scale = (right - left - 110) / dead
    for y, name, fill in ((52, "the cluster says", "#fdeccb"), (122, "the node does", "#dbe9fb")):
        yield text("word", 8, y + 28, name)
        yield box(left, y, right - left, 46, fill)
    for place, (at, event, cluster, node) in enumerate(moments):
        x = left + at * scale
        yield f'<path class="arrow" d="M{x:g} 44v132"/>'
        yield text("name", x, 20, f"{at:g} s", "middle" if place else "start")
        yield text("word", x, 38, event, "middle" if place else "start")
        narrow = place == 0
        for y, words in ((52, cluster), (122, node)):
            for line, part in enumerate(_lines(words, narrow=narrow)):
                yield text("about", x + 6, y + 19 + 16 * line, part)


def _lines(words: str, *, narrow: bool) -> list[str]:
    """Break a text in two where it is too long for its place."""
    words = words.replace("`", "")
    space = words.find(" ", len(words) // 2 - 2)
    if len(words) < (10 if narrow else 18) or space < 0:
        return [words]
    return [words[:space], words[space + 1 :]]


PICTURES = {
    IMAGES / "cluster.svg": picture(
        "How a cluster is made",
        "Three nodes, each the authority on its own sessions, over an engine that holds the index.",
        336,
        parts(),
    ),
    IMAGES / "lease.svg": picture(
        "A node that is not heard of",
        "What the cluster says of a node, and what that does, by the time since its last renewal.",
        184,
        lease(LeaseTerms()),
    ),
}
"""Each picture's file, and what is in it."""


def main() -> None:
    """Write every picture into its file."""
    for path, drawn in PICTURES.items():
        Path(path).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
