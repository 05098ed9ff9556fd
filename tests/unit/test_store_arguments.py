"""What a store is given: strings of any kind, reasons, capacities. (What it refuses, and that it
leaves nothing then, is guarantee 5.)
"""

import enum
import pickle
import threading

import pytest

from frontdesk import (
    ExitReason,
    InvalidArgument,
    InvalidType,
    Limits,
    MonitorFailed,
    SessionAlreadyExists,
    SessionLimitExceeded,
    SessionNotFound,
    SessionStore,
    StoreClosed,
)
from frontdesk.testing import FakeAgent
from support.agents import BOUND_S, in_threads, told


class Name(enum.StrEnum):
    """Strings that are not exactly `str`."""

    SESSION = "s"
    TENANT = "t"
    KEY = "k"


def test_an_id_may_be_of_a_subclass_of_str_in_every_operation(store):
    store.create(Name.SESSION, FakeAgent(), tenant_id=Name.TENANT, api_key=Name.KEY)
    assert type(store.get("s").session_id) is str
    assert store.get(Name.SESSION) is store.get("s")
    assert Name.SESSION in store
    assert store.list_by_tenant(Name.TENANT) == store.list_by_api_key(Name.KEY) == store.list()
    assert store.count_by_tenant(Name.TENANT) == store.count_by_api_key(Name.KEY) == 1
    assert store.update(Name.SESSION, model="m").model == "m"
    assert store.get_or_create(Name.SESSION, FakeAgent) is store.get("s")
    store.delete(Name.SESSION)
    assert "s" not in store
    assert store.ended(Name.SESSION).session.session_id == "s"


class Liar(str):
    """A string that is equal to nothing and hashes at random."""

    __slots__ = ()

    def __eq__(self, other):
        return False

    def __hash__(self):
        return id(self)


def test_a_string_that_lies_about_its_equality_is_taken_at_its_characters(store):
    store.create(Liar("s"), FakeAgent(), tenant_id=Liar("t"))
    with pytest.raises(SessionAlreadyExists):
        store.create(Liar("s"), FakeAgent())
    assert store.get("s").tenant_id == "t"
    store.delete(Liar("s"))
    assert "s" not in store


@pytest.mark.parametrize("session_id", [None, 7, b"s", [], {}, ("s",)])
def test_a_lookup_of_what_is_no_id_is_refused(store, session_id):
    for asking in (store.get, store.ended, store.delete, store.update):
        with pytest.raises(InvalidType) as refused:
            asking(session_id)
        assert refused.value.got == type(session_id).__name__
    assert session_id not in store


def test_a_delete_may_say_why(store):
    store.create("s", FakeAgent())
    with store.watch() as watch:
        store.delete("s", reason=ExitReason.of("expired"))
        assert told(watch) == [("ended", "s", "expired")]
    assert store.ended("s").reason == ExitReason.of("expired")


@pytest.mark.parametrize(
    "wrong", [{"reason": "expired"}, {"reason": None}, {"fence": "1"}, {"fence": True}], ids=str
)
def test_a_delete_with_words_of_another_type_is_refused_by_name(store, wrong):
    session = store.create("s", FakeAgent())
    with pytest.raises(InvalidType) as refused:
        store.delete("s", **wrong)
    assert refused.value.name in wrong
    assert store.get("s") is session


@pytest.mark.parametrize("monitors", [5, {"x": print}, {int: 5}], ids=str)
def test_monitors_of_another_form_are_refused_before_there_is_a_store(monitors):
    with pytest.raises(InvalidType) as refused:
        SessionStore(monitors=monitors)
    assert refused.value.name == "monitors"


def test_an_agent_that_was_made_and_then_refused_is_in_the_error(make_store):
    store, made = make_store(limits=Limits(total=1)), []
    store.create("s", FakeAgent())

    def factory():
        made.append(FakeAgent())
        return made[-1]

    with pytest.raises(SessionLimitExceeded) as refused:
        store.get_or_create("other", factory)
    assert refused.value.agent is made[0]


@pytest.mark.parametrize("name", ["feed_capacity", "ends_capacity"])
@pytest.mark.parametrize("value", [0, -1, "1", 1.5, None, True])
def test_a_capacity_is_a_positive_number(name, value):
    with pytest.raises((InvalidArgument, InvalidType)) as refused:
        SessionStore(**{name: value})
    assert refused.value.name == name


@pytest.mark.parametrize(
    "error",
    [
        SessionNotFound("s"),
        SessionAlreadyExists("s", holder=None),
        SessionLimitExceeded(scope="total", limit=3),
        StoreClosed(forked=True),
        MonitorFailed("Popen", error=OSError(24, "Too many open files")),
        InvalidArgument("session_id", expected="a string", got="nothing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling_with_its_facts(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    for name, fact in vars(error).items():
        assert repr(getattr(copy, name)) == repr(fact)


def test_a_missing_session_reads_as_a_sentence():
    assert str(SessionNotFound("s-1")) == "no session 's-1'"


@pytest.mark.parametrize("value", [7, [], b"t"])
@pytest.mark.parametrize(
    "question", ["list_by_tenant", "count_by_tenant", "list_by_api_key", "count_by_api_key"]
)
def test_a_tenant_or_key_that_is_no_string_is_refused_by_name(store, question, value):
    with pytest.raises(InvalidType) as refused:
        getattr(store, question)(value)
    assert refused.value.name == ("tenant_id" if "tenant" in question else "api_key")
    assert refused.value.got == type(value).__name__


@pytest.mark.parametrize("value", [5, {"total": 1}])
def test_limits_of_another_type_are_refused_before_anything_changes(store, value):
    with pytest.raises(InvalidType):
        SessionStore(limits=value)
    before = store.limits
    with pytest.raises(InvalidType):
        store.limits = value
    assert store.limits is before


@pytest.mark.parametrize("timeout_s", [float("inf"), 10**400])
def test_waiting_may_be_as_long_as_one_likes(store, timeout_s):
    with store.watch() as watch:
        watch.next(timeout_s=timeout_s)
        threading.Timer(0.01, store.create, ("s", FakeAgent())).start()
        assert watch.next(timeout_s=timeout_s).kind == "created"
    gate, entered = threading.Event(), threading.Event()

    def made():
        entered.set()
        assert gate.wait(BOUND_S)
        return FakeAgent()

    def late():
        assert entered.wait(BOUND_S)
        threading.Timer(0.01, gate.set).start()
        return store.get_or_create("t", FakeAgent, timeout_s=timeout_s)

    first, second = in_threads(lambda: store.get_or_create("t", made), late)
    assert first is second
