"""Every example in a docstring of Frontdesk runs and gives what it shows; its files exist."""

import ast
import doctest
import importlib
import pkgutil
import re

import pytest

import frontdesk
from docs.pages import ROOT
from frontdesk.errors import MissingExtra

SOURCES = [path.relative_to(ROOT) for path in sorted((ROOT / "src/frontdesk").rglob("*.py"))]
MODULES = [
    "frontdesk",
    *(
        found.name
        for found in pkgutil.walk_packages(frontdesk.__path__, "frontdesk.")
        if not found.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_module_run(name):
    try:
        module = importlib.import_module(name)
    except MissingExtra as missing:
        pytest.skip(f"its framework is where `tests/frameworks.py` runs: {missing}")
    tests = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    for test in tests:
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=said.append)
        assert not runner.summarize(verbose=False).failed, "".join(said)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_the_files_that_a_docstring_names_exist(path):
    """Beside the file, or in a folder that it is in."""
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
    folders = [ROOT / each for each in path.parents if each.is_relative_to("src/frontdesk")]
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any((folder / name).exists() for folder in folders), name
