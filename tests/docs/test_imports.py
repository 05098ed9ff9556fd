"""The documents import from the public packages only, and only what those export."""

import ast
import importlib

import pytest

from docs.pages import blocks_in

PUBLIC = {
    "frontdesk",
    "frontdesk.agents",
    "frontdesk.client",
    "frontdesk.cluster",
    "frontdesk.sessions",
    "frontdesk.gateway",
    "frontdesk.testing",
}


def imports_of(source):
    """Return (module, name) of everything that a program imports from Frontdesk."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((each.name, None) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, each.name) for each in node.names)


@pytest.mark.parametrize("block", blocks_in("python"), ids=str)
def test_a_program_imports_only_public_names(block):
    ours = [each for each in imports_of(block.source) if each[0].split(".")[0] == "frontdesk"]
    for module, name in ours:
        assert module in PUBLIC
        assert name is None or name in importlib.import_module(module).__all__


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_a_public_package_has_what_it_exports(module):
    package = importlib.import_module(module)
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_a_public_package_knows_no_other_name(module):
    with pytest.raises(AttributeError):
        _ = importlib.import_module(module).no_such_name
