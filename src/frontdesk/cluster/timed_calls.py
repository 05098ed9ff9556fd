"""How long calls of an engine take, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

__all__ = ["OnCall", "timed"]

T = TypeVar("T")

OnCall = Callable[[str, float, BaseException | None], None]
"""Told of each call: its verb, how many seconds it took, and the error that it ended with."""


async def timed(call: Awaitable[T], *, verb: str, on_call: OnCall) -> T:
    """Return or raise what a call does, and tell how long it took."""
    begun_s, error = perf_counter(), None
    try:
        return await call
    except BaseException as raised:
        error = raised
        raise
    finally:
        on_call(verb, perf_counter() - begun_s, error)
