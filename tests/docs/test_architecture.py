"""The page that says which file to open names files that there are, and the layers that hold."""

import re
import tomllib
from xml.etree import ElementTree

from docs.pages import ROOT, page

PAGE = page("ARCHITECTURE.md")
SVG = {"s": "http://www.w3.org/2000/svg"}


def test_every_file_that_is_named_exists():
    for row in PAGE.rows(under="Which file to open"):
        folder = None
        for name in re.findall(r"`([\w./]+)`", row[1]):
            path = ROOT / name if "/" in name else folder / name
            assert path.exists(), f"{row[0]}: {name}"
            folder = path.parent


def test_the_layers_are_those_that_the_checks_hold():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    held = [[name.strip() for name in layer.split("|")] for layer in layers]
    assert drawn_layers() == held


def test_the_page_shows_the_picture():
    assert "docs/images/layers.svg" in PAGE.links


def drawn_layers():
    """Return the names that stand in each row of the picture, from the top down."""
    picture = ElementTree.parse(ROOT / "docs/images/layers.svg")
    rows = picture.iterfind(".//s:g[@class='row']", SVG)
    return [[text.text for text in row.iterfind("s:text[@class='layer']", SVG)] for row in rows]
