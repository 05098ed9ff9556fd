"""The reference names what there is: every public name, every operation with its signature."""

import inspect

import pytest

import frontdesk
from docs.pages import PAGES, page
from frontdesk import ExitKind, SessionStore, Watch, Watcher

REGISTRY = page("docs/reference/registry.md")
MONITORS = page("docs/reference/monitors.md")
REFERENCE = [one for one in PAGES if str(one).startswith("docs/reference/")]
NAMED = {span for one in REFERENCE for span in one.code_spans}
NAMED |= {heading.strip("`") for one in REFERENCE for heading in one.headings}


def words(texts):
    """Return the names that stand at the beginning of code spans."""
    return {text.split("(")[0].removeprefix("frontdesk.") for text in texts}


def public_callables(kind):
    """Return the public methods and properties of a class, its bases included."""
    return [name for name in dir(kind) if not name.startswith("_")]


def signature_of(function):
    """Return a signature as the documents write it: without self and annotations."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


@pytest.mark.parametrize("name", frontdesk.__all__)
def test_the_reference_names_every_public_name(name):
    assert name in words(NAMED)


@pytest.mark.parametrize("kind", [SessionStore, Watch, Watcher], ids=lambda kind: kind.__name__)
def test_the_reference_names_every_method(kind):
    missing = set(public_callables(kind)) - words(NAMED)
    assert not missing


OPERATIONS = [
    name
    for name in public_callables(SessionStore)
    if inspect.isfunction(inspect.getattr_static(SessionStore, name))
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_signature_of_an_operation_is_the_one_in_the_reference(name):
    # The deleted reason is a default that no document can write out.
    written = {h.strip("`") for h in REGISTRY.headings} | REGISTRY.code_spans
    function = getattr(SessionStore, name)
    expected = name + signature_of(function)
    if name == "delete":
        expected = "delete(session_id, *, fence=None, reason=ExitReason.of('deleted'))"
    assert expected in {one.replace('"', "'") for one in written}


def test_the_reference_explains_every_exit_kind():
    rows = {row[0].strip("`") for row in MONITORS.rows()}
    assert {str(kind) for kind in ExitKind} <= rows
