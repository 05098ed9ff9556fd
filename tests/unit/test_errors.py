"""Errors as records: they survive a process boundary with all their facts."""

from __future__ import annotations

import concurrent.futures
import errno
import pickle

import pytest

from frontdesk import (
    InvalidArgument,
    MonitorFailed,
    SessionLimitExceeded,
    SessionNotFound,
    SessionStore,
    StoreClosed,
)


def again(error):
    return pickle.loads(pickle.dumps(error))


def test_an_error_with_facts_survives_pickling():
    error = again(SessionLimitExceeded(scope="per_tenant", limit=3))
    assert (error.scope, error.limit) == ("per_tenant", 3)
    assert "per_tenant" in str(error)
    assert str(again(SessionNotFound("a"))) == "no session 'a'"
    assert again(StoreClosed(forked=True)).forked


def test_an_operating_system_error_keeps_its_number_when_pickled():
    error = MonitorFailed("Popen", error=OSError(errno.EMFILE, "Too many open files"))
    same = again(error)
    assert (same.errno, same.strerror, str(same)) == (error.errno, error.strerror, str(error))


def test_a_wrong_api_key_is_refused_without_being_repeated():
    agent = concurrent.futures.Future()
    with SessionStore() as store, pytest.raises(InvalidArgument) as refused:
        store.create("a", agent, api_key="sk-secret\n")
    assert "sk-secret" not in repr(refused.value)
    assert refused.value.name == "api_key"
