"""The page that says which file to open names files that there are, and the layers that hold."""

import re
import tomllib

from docs.pages import ROOT, page

PAGE = page("ARCHITECTURE.md")


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
    picture = next(block.source for block in PAGE.blocks if block.heading == "The layers")
    drawn = re.findall(r"^   (\w+(?: \| \w+)*)  ", picture, flags=re.MULTILINE)
    assert [layer.split(" | ") for layer in drawn] == held
