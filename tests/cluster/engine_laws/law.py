"""A law of an engine as data, and what holds an engine to it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from cluster.engine_laws.subject import ClusterUnderTest

BOUND_S = 100.0
"""A law that has not come to its end by then is broken: something hangs."""


@dataclass(frozen=True)
class EngineLaw:
    """One thing that every engine does.

    Attributes:
        law_id (str): What to name it by.
        sentence (str): What an engine does that keeps it.
        check: Fails where an engine breaks it.
        loses (bool): The law restarts or empties the engine's server; or a caller knows more than
            it, which only happens to one that has lost something.
    """

    law_id: str
    sentence: str
    check: Callable[[ClusterUnderTest], Awaitable[None]]
    loses: bool

    def __str__(self):
        return self.law_id


def law(sentence, *, loses=False):
    """Make a law of the coroutine function below; its id is that function's name, with hyphens."""

    def make(check):
        return EngineLaw(check.__name__.strip("_").replace("_", "-"), sentence, check, loses)

    return make


loss_law = partial(law, loses=True)
"""Make a law of engines that lose something."""


def check_law(
    law: EngineLaw,
    factory: Callable[[], AbstractAsyncContextManager[ClusterUnderTest]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Check one law on a fresh cluster; what its check raises has the law's sentence as a note."""

    async def check():
        async with asyncio.timeout(BOUND_S), factory() as cluster:
            await law.check(cluster)

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(check())
    except BaseException as error:
        error.add_note(f"the broken law ({law.law_id}): {law.sentence}")
        raise
