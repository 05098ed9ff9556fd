"""The two clients have the same names, and their methods the same arguments."""

import ast
import inspect
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import frontdesk.client
from frontdesk.client import (
    AsyncClient,
    AsyncClientOperator,
    AsyncClientSession,
    AsyncClientTurn,
    Client,
    ClientOperator,
    ClientSession,
    ClientTurn,
)

TWINS = [
    (Client, AsyncClient),
    (ClientSession, AsyncClientSession),
    (ClientTurn, AsyncClientTurn),
    (ClientOperator, AsyncClientOperator),
]
OF_THE_LANGUAGE = {"__enter__", "__exit__", "__iter__"}


def public(kind):
    names = {name for name in vars(kind) if not name.startswith("_")} | (
        set(vars(kind)) & (OF_THE_LANGUAGE | {"__aenter__", "__aexit__", "__aiter__", "__init__"})
    )
    return {name.replace("__a", "__") for name in names}


def parameters(kind, name):
    method = inspect.getattr_static(kind, name)
    if isinstance(method, property):
        return "property"
    return [
        (each.name, each.kind, each.default)
        for each in inspect.signature(method).parameters.values()
    ]


@pytest.mark.parametrize(("sync", "other"), TWINS)
def test_both_have_the_same_names(sync, other):
    assert public(sync) == public(other)
    assert set(sync.__annotations__) == set(other.__annotations__)


@pytest.mark.parametrize(("sync", "other"), TWINS)
def test_both_take_the_same_arguments(sync, other):
    for name in public(sync):
        twin = name.replace("__", "__a", 1) if name in OF_THE_LANGUAGE else name
        assert parameters(sync, name) == parameters(other, twin), name


@pytest.mark.parametrize(("sync", "other"), TWINS)
def test_every_public_method_says_what_it_does(sync, other):
    for kind in (sync, other):
        for name in public(kind) - OF_THE_LANGUAGE - {"__init__"}:
            assert inspect.getattr_static(kind, name).__doc__, (kind, name)


def test_every_method_of_the_asynchronous_client_that_asks_is_awaited():
    told = {"session", "events", "feed", "sessions", "messages"}
    for _, other in TWINS:
        for name in {each for each in vars(other) if not each.startswith("_")}:
            method = inspect.getattr_static(other, name)
            if inspect.isfunction(method) and name not in told:
                assert inspect.iscoroutinefunction(method), (other, name)


def test_every_exported_name_is_there():
    assert len(set(frontdesk.client.__all__)) == len(frontdesk.client.__all__)
    for name in frontdesk.client.__all__:
        assert hasattr(frontdesk.client, name)


def test_no_module_of_the_client_opens_connections_but_the_transports():
    folder = frontdesk.client.__path__[0]
    users = set()
    for path in Path(folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import) and any(each.name == "httpx2" for each in node.names):
                users.add(path.stem)
    assert users == {"__init__", "http_settings", "sync_transport", "async_transport"}


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
import frontdesk
print("frontdesk.client" in sys.modules, "httpx2" in sys.modules)
try:
    import frontdesk.client
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("missing", ["httpx2", "msgspec"])
def test_without_the_extra_the_error_names_it(missing):
    """`import frontdesk` does not need it, and does not import it."""
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(missing=missing)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "PYTHONPATH": sysconfig.get_path("purelib")},
    )
    first, second = ran.stdout.splitlines()
    assert first == "False False"
    assert second == (
        f"MissingExtra frontdesk.client needs the package {missing!r}: install it with "
        "pip install 'frontdesk[client]'"
    )


def test_the_client_imports_no_web_framework():
    told = "import sys, frontdesk.client; print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(ran.stdout))
    unwanted = {"fastapi", "starlette", "uvicorn", "pydantic", "structlog", "rich", "typer"}
    assert not loaded & unwanted
    assert not any(each.startswith("frontdesk.gateway") for each in loaded)
