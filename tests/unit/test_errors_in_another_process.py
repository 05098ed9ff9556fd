"""Every public error of every layer comes out of a process pool, and can be copied, with its facts.

The store's own as they are really raised, with live agents and sessions among their facts.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import errno
import importlib
import inspect
import multiprocessing
import pickle
import subprocess
import sys
import threading

import pytest

import frontdesk
from frontdesk import (
    AgentFactoryFailed,
    FrontdeskError,
    Limits,
    Metadata,
    MonitorFailed,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionStore,
)
from frontdesk.testing import FakeAgent

LAYERS = ("errors", "keeper.errors", "agents.errors", "sessions.errors", "gateway.errors")


def public_errors():
    """Return every error class of every layer."""
    modules = [importlib.import_module(f"frontdesk.{layer}") for layer in LAYERS]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, FrontdeskError)
        and found.__module__ == module.__name__
    ]


# -- as they are really raised ---------------------------------------------------------------------


class Awkward(Exception):
    """An exception that is pickled, and cannot be made again from that."""

    def __init__(self, *, why):
        super().__init__(f"why: {why}")


class Unprintable(Exception):
    def __init__(self):
        super().__init__(threading.Lock())

    def __str__(self):
        raise ValueError


def already_exists():
    with SessionStore() as store:
        store.create("s", concurrent.futures.Future(), api_key="k", model="m")
        store.create("s", concurrent.futures.Future())


def already_exists_with_a_process():
    with SessionStore() as store, subprocess.Popen(["sleep", "1000"]) as child:
        try:
            store.create("s", child)
            store.create("s", concurrent.futures.Future())
        finally:
            child.kill()


def refused_with_its_agent():
    with SessionStore(limits=Limits(total=1)) as store:
        store.create("s", FakeAgent())
        store.get_or_create("t", lambda: threading.current_thread())


def refused_with_an_agent_of_a_loop():
    async def main():
        with SessionStore() as store:

            def factory():
                store.create("t", asyncio.get_running_loop().create_future())
                return asyncio.current_task()

            store.get_or_create("t", factory)

    asyncio.run(main())


def factory_failed_elsewhere(error):
    with SessionStore() as store:
        making, asked = threading.Event(), threading.Event()

        def factory():
            making.set()
            asked.wait(10)
            raise error

        def make():
            try:
                store.get_or_create("s", factory)
            except type(error):
                pass

        maker = threading.Thread(target=make)
        maker.start()
        making.wait(10)
        pending = store._pending._under_way["s"]
        asked.set()
        try:
            pending.wait("s", timeout_s=10)
        finally:
            maker.join(10)


def factory_failed_with_what_cannot_be_made_again():
    factory_failed_elsewhere(Awkward(why="because"))


def factory_failed_with_what_cannot_be_pickled():
    factory_failed_elsewhere(Unprintable())


def recursive():
    with SessionStore() as store:
        store.get_or_create("s", lambda: store.get_or_create("s", FakeAgent))


def not_found():
    with SessionStore() as store:
        store.get("s")


def closed():
    store = SessionStore()
    store.close()
    store.count()


def unknown_kind():
    with SessionStore() as store:
        store.create("s", object())


def not_started():
    with SessionStore() as store:
        store.create("s", threading.Thread())


def invalid():
    with SessionStore() as store:
        store.create("", FakeAgent())


def invalid_type():
    with SessionStore() as store:
        store.create(b"s", FakeAgent())


def no_process():
    frontdesk.ProcessRef.of(2**22 + 1)


def interrupted():
    with SessionStore() as store, store._core.lock.held:
        store.create("s", FakeAgent())


def monitor_failed():
    raise MonitorFailed("Popen", error=OSError(errno.EMFILE, "Too many open files"))


REALLY = [
    already_exists,
    already_exists_with_a_process,
    refused_with_its_agent,
    refused_with_an_agent_of_a_loop,
    factory_failed_with_what_cannot_be_made_again,
    factory_failed_with_what_cannot_be_pickled,
    recursive,
    not_found,
    closed,
    unknown_kind,
    not_started,
    invalid,
    invalid_type,
    no_process,
    interrupted,
    monitor_failed,
]
every_really = pytest.mark.parametrize("really", REALLY, ids=lambda one: one.__name__)


def raised(function, *arguments):
    with pytest.raises(FrontdeskError) as caught:
        function(*arguments)
    return caught.value


def assert_tells_the_same(again, error):
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert len(again.args) == len(error.args)
    assert vars(again).keys() == vars(error).keys() - {"agent"}
    if isinstance(error, OSError):
        assert (again.errno, again.strerror) == (error.errno, error.strerror)
    if isinstance(error, ImportError):
        assert again.msg == error.msg
    for name, fact in vars(again).items():
        assert fact == getattr(error, name) or name in {"holder", "error"}


@pytest.fixture(scope="module")
def pool():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor


@every_really
def test_an_error_that_was_really_raised_comes_out_of_a_process_pool(pool, really):
    assert_tells_the_same(raised(pool.submit(really).result, 60), raised(really))


@every_really
def test_an_error_that_was_really_raised_survives_pickle_twice(really):
    error = raised(really)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert_tells_the_same(again, error)
        assert_tells_the_same(pickle.loads(pickle.dumps(again)), error)
        assert again.agent is None


@every_really
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_in_this_process_has_the_very_facts(really, copied):
    error = raised(really)
    again = copied(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.agent is error.agent
    assert all(vars(again)[name] is fact for name, fact in vars(error).items())


def test_what_is_alive_travels_as_its_metadata(pool):
    error = raised(pool.submit(already_exists).result, 60)
    assert isinstance(error, SessionAlreadyExists)
    assert type(error.holder) is Metadata
    assert (error.holder.session_id, error.holder.api_key, error.holder.model) == ("s", "k", "m")
    refused = raised(refused_with_its_agent)
    assert isinstance(refused, SessionLimitExceeded)
    assert refused.agent is threading.current_thread()
    assert pickle.loads(pickle.dumps(refused)).agent is None


def test_an_exception_that_cannot_be_pickled_travels_as_its_type_and_text(pool):
    error = raised(pool.submit(factory_failed_with_what_cannot_be_made_again).result, 60)
    assert isinstance(error, AgentFactoryFailed)
    assert (type(error.error), str(error.error)) == (RuntimeError, "Awkward: why: because")
    error = raised(pool.submit(factory_failed_with_what_cannot_be_pickled).result, 60)
    assert (type(error.error), str(error.error)) == (RuntimeError, "Unprintable")
    error = AgentFactoryFailed("s", error=KeyError("kept"))
    assert repr(pickle.loads(pickle.dumps(error)).error) == "KeyError('kept')"


# -- all of them -----------------------------------------------------------------------------------


def example_of(kind):
    """Make an error of a class, with a fact of the right type for each parameter."""
    if kind is FrontdeskError:
        return FrontdeskError("text")
    parameters = inspect.signature(kind).parameters.values()
    facts = {one.name: fact_for(one) for one in parameters}
    positional = [facts[one.name] for one in parameters if one.kind is not one.KEYWORD_ONLY]
    return kind(
        *positional,
        **{one.name: facts[one.name] for one in parameters if one.kind is one.KEYWORD_ONLY},
    )


def fact_for(parameter):
    return {
        "int": 3,
        "Iterable[tuple[int, str]]": [(3, "wrong")],
        "float": 0.5,
        "bool": True,
        "OSError": OSError(errno.EMFILE, "Too many open files"),
        "BaseException": KeyError("k"),
        "tuple[str, ...]": ("one", "two"),
        "Session | None": None,
        "Any": frontdesk.ExitReason.signalled(9),
    }.get(parameter.annotation, f"the {parameter.name}")


@pytest.mark.parametrize("kind", public_errors(), ids=lambda one: one.__name__)
def test_every_public_error_survives_pickle_and_copy(kind):
    error = example_of(kind)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert_tells_the_same_facts(again, error)
    assert_tells_the_same_facts(copy.copy(error), error)
    assert_tells_the_same_facts(copy.deepcopy(error), error)


def assert_tells_the_same_facts(again, error):
    assert_tells_the_same(again, error)
    assert {name: repr(fact) for name, fact in vars(again).items()} == {
        name: repr(fact) for name, fact in vars(error).items()
    }


def raise_example(number):
    raise example_of(public_errors()[number])


def test_every_public_error_comes_out_of_a_process_pool(pool):
    kinds = public_errors()
    assert len(kinds) > 35
    submitted = [pool.submit(raise_example, number) for number in range(len(kinds))]
    for kind, future in zip(kinds, submitted, strict=True):
        assert_tells_the_same_facts(raised(future.result, 60), example_of(kind))


def test_an_error_is_pickled_without_the_library_importing_pickle():
    """Its import is not paid for by those who never need it."""
    code = "import frontdesk, sys; sys.exit('pickle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
