"""Many calls at once, which all have come to an end before anybody goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

__all__ = ["all_of"]


async def all_of(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them, then raise what the first that failed has raised.

    `gather` alone raises at once, and leaves the others to themselves.
    """
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
