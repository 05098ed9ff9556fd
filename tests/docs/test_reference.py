"""The reference names what there is: every public name, every operation with its signature.

Signatures and what a symbol promises come from the docstrings: a line `::: frontdesk.SessionStore`
stands for them. What a page says of a class in that way is what the tool that makes the site finds.
"""

import enum
import importlib
import inspect
import re

import griffe
import pytest

import frontdesk
from docs.pages import PAGES, ROOT, page
from frontdesk import ExitKind, SessionStore, Watch, Watcher

MONITORS = page("docs/reference/monitors.md")
REFERENCE = [one for one in PAGES if str(one).startswith("docs/reference/")]
PACKAGES = (
    "frontdesk",
    *(f"frontdesk.{name}" for name in ("agents", "sessions", "gateway", "client", "cluster")),
)
PACKAGES += ("frontdesk.testing",)
PUBLIC = [
    f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__
]
NAMED = {span for one in REFERENCE for span in one.code_spans}
NAMED |= {heading.strip("`") for one in REFERENCE for heading in one.headings}
DIRECTIVE = re.compile(r"^::: ([\w.]+)$")
SHOWN = [found[1] for one in REFERENCE for line in one.prose if (found := DIRECTIVE.match(line))]


@pytest.fixture(scope="module")
def sources():
    """Return the package as the site's builder reads it: its sources, nothing imported."""
    return griffe.load(
        "frontdesk", search_paths=[ROOT / "src"], resolve_aliases=True, docstring_parser="google"
    )


def words(texts):
    """Return the names that stand at the beginning of code spans."""
    return {text.split("(")[0].split(".")[-1] for text in texts}


def object_of(path):
    """Return what a dotted path names."""
    package = max((each for each in PACKAGES if path.startswith(f"{each}.")), key=len)
    return getattr(importlib.import_module(package), path.removeprefix(f"{package}."))


def public_members(kind):
    """Return the public methods and properties of a class, its bases included."""
    return [name for name in dir(kind) if not name.startswith("_")]


def operations(kind):
    """Return the public functions of a class, its bases included."""
    statics = [(name, inspect.getattr_static(kind, name)) for name in public_members(kind)]
    return [name for name, one in statics if inspect.isfunction(one)]


@pytest.mark.parametrize("path", PUBLIC)
def test_the_reference_names_every_public_name(path):
    assert path in SHOWN or path.split(".")[-1] in words(NAMED)


@pytest.mark.parametrize("path", SHOWN)
def test_the_reference_shows_only_public_names_and_each_has_a_docstring(path, sources):
    assert path in PUBLIC
    assert sources[path.removeprefix("frontdesk.")].has_docstring


def test_the_reference_shows_a_name_once():
    assert len(SHOWN) == len(set(SHOWN))


@pytest.mark.parametrize(
    "name", [n for n in frontdesk.__all__ if inspect.isclass(getattr(frontdesk, n))]
)
def test_every_class_of_the_library_is_shown_or_is_in_a_table(name):
    kind = getattr(frontdesk, name)
    tabled = issubclass(kind, (enum.Enum, frontdesk.FrontdeskError))
    assert tabled or f"frontdesk.{name}" in SHOWN


SHOWN_CLASSES = [SessionStore, Watch, Watcher]


@pytest.mark.parametrize("kind", SHOWN_CLASSES, ids=lambda kind: kind.__name__)
def test_the_reference_shows_every_method(kind, sources):
    """A member without a docstring would be left out of the page."""
    members = sources[kind.__name__].all_members
    shown = {name for name, member in members.items() if member.has_docstring}
    assert set(public_members(kind)) <= shown


@pytest.mark.parametrize("name", operations(SessionStore))
def test_the_signature_of_an_operation_is_the_one_in_the_reference(name, sources):
    shown = sources["SessionStore"].all_members[name]
    real = inspect.signature(inspect.getattr_static(SessionStore, name))
    assert [one.name for one in shown.parameters] == list(real.parameters)
    for parameter in real.parameters.values():
        written = shown.parameters[parameter.name]
        assert written.kind.name == parameter.kind.name.lower()
        if parameter.default is inspect.Parameter.empty:
            assert written.default is None
        else:
            # The reason `deleted` is a default that has a name of its own.
            default = repr(parameter.default).replace("Ellipsis", "...")
            assert str(written.default) in (default, "_DELETED")


def test_the_reference_names_every_operation_of_the_store():
    registry = page("docs/reference/registry.md")
    assert set(public_members(SessionStore)) <= words(registry.code_spans)


def test_the_reference_explains_every_exit_kind():
    rows = {row[0].strip("`") for row in MONITORS.rows()}
    assert {str(kind) for kind in ExitKind} <= rows
