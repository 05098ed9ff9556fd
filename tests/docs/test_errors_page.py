"""The page of errors and `errors.py` say the same: names, further base classes, facts."""

import ast
import inspect

import pytest

from docs.pages import page
from frontdesk import errors
from frontdesk.agents import errors as agents_errors
from frontdesk.gateway import errors as gateway_errors
from frontdesk.keeper import errors as keeper_errors
from frontdesk.sessions import errors as sessions_errors

PAGE = page("docs/reference/errors.md")
KINDS = {
    name: kind
    for layer in (errors, keeper_errors, agents_errors, sessions_errors, gateway_errors)
    for name, kind in vars(layer).items()
    if inspect.isclass(kind) and issubclass(kind, errors.FrontdeskError)
}
ROWS = {row[0].strip("`"): row for row in PAGE.rows() if len(row) == 4}


def facts_of(kind):
    """Return the names of the attributes that an error of this kind sets, inherited ones too."""
    ours = [one for one in kind.__mro__ if one in KINDS.values()]
    return {fact for one in ours for fact in _assigned(one)}


def _assigned(kind):
    """Return what the source of a class assigns to `self`."""
    nodes = ast.walk(ast.parse(inspect.getsource(kind)))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    return {
        node.attr
        for node in attributes
        if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }


def spans(cell):
    """Return the words of a cell that are marked as code."""
    return set(cell.split("`")[1::2])


def test_the_page_lists_every_error_and_no_other():
    assert set(ROWS) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_page_says_what_else_an_error_is(name):
    bases = {base.__name__ for base in KINDS[name].__bases__}
    assert spans(ROWS[name][1]) == bases - {"FrontdeskError", "Exception"}


@pytest.mark.parametrize("name", KINDS)
def test_the_page_lists_the_facts_of_an_error(name):
    assert spans(ROWS[name][2]) == facts_of(KINDS[name])
