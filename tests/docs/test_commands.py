"""The commands that the documents tell people to type exist."""

import re

from docs.pages import ROOT, blocks_in, page

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))


def lines_of(block):
    """Return the commands of a block, with continued lines joined and comments left out."""
    joined = block.source.replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines() if line.strip()]


def commands(program):
    """Return every documented command line of a program, with where it stands."""
    return [
        (str(block), line)
        for block in blocks_in("sh")
        for line in lines_of(block)
        if line.split()[0] == program
    ]


def test_the_two_commands_of_the_readme_are_in_the_makefile():
    said = {
        line
        for block in page("README.md").blocks
        if block.language == "sh"
        for line in lines_of(block)
    }
    assert {"make serve", "make test"} <= said
    assert {"serve", "test"} <= TARGETS


def test_every_make_target_that_is_documented_exists():
    for place, line in commands("make"):
        for target in line.split()[1:]:
            assert "=" in target or target in TARGETS, f"{place}: {line}"
