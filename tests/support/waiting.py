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
