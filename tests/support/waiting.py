"""Waiting for something to become true, with a generous bound: the tests' only way to wait."""

import time

BOUND_S = 20.0
LOOK_S = 0.005


def eventually(condition, *, within_s=BOUND_S):
    """Return the first true value of `condition`; fail when the bound is over."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not become true within {within_s} s")
        time.sleep(LOOK_S)
    return value


def create_when_known(ask, session_id, *, within_s=90.0):
    """Create a session under an id of the caller's, as soon as the engine gives such ids away.

    An engine that is empty may have lost something: until a lease has passed it is not sure that
    nobody has the id. `ask` is a client's `request`.
    """
    body = {"model": "test", "sessionId": session_id, "blueprint": "parrot"}
    eventually(lambda: ask("POST", "/v1/sessions", json=body).status_code == 201, within_s=within_s)
