"""Checks of the interpreters that blueprints name, before anything is served.

For whoever reads a configuration (`surroundings.py`). Each is tried as it will be used: as a fork
server, under a keeper, so confined as any other, and ended with it whatever it does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future

import msgspec

from frontdesk.agents.process.factory import fork_server
from frontdesk.agents.process.messages import ProgramSource
from frontdesk.background import start_without_signals
from frontdesk.gateway.blueprint_kinds import process_rules
from frontdesk.gateway.blueprint_settings import IsolationTable
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.errors import ForkServerFailed, KeeperLost
from frontdesk.keeper.messages import ForkServerSpec

CHECK_S = 20.0
"""How long an interpreter may take to say that it can serve."""

AT_ONCE = 8
"""Interpreters that are tried at a time: fewer than a keeper has fork servers."""

_REQUIRE = "frontdesk.agents.targets:require_module"


def problems_of(tables: Mapping[str, IsolationTable]) -> dict[str, str]:
    """Return what is wrong with the interpreters of tables, by the tables' names.

    In each, the target's module is looked for and not run. Blocks, for some hundred milliseconds.
    """
    specs = {name: _spec_of(table) for name, table in tables.items() if table.python is not None}
    if not specs:
        return {}
    outcome: Future[list[str | None]] = Future()

    def run() -> None:
        try:
            outcome.set_result(asyncio.run(_try_all(specs.values())))
        except BaseException as error:  # noqa: BLE001 - raised again, by who waits for it
            outcome.set_exception(error)

    # A loop of its own, as a reload is asked for within the gateway's.
    start_without_signals(threading.Thread(target=run, name="frontdesk-checks"))
    found = zip(specs, outcome.result(), strict=True)
    return {name: problem for name, problem in found if problem is not None}


def _spec_of(table: IsolationTable) -> ForkServerSpec:
    assert table.target is not None, "there is no process without a target"
    spec = fork_server(
        ProgramSource(target=table.target), rules=process_rules(table), python=table.python
    )
    return msgspec.structs.replace(
        spec, entry=_REQUIRE, argument=table.target, preload=spec.preload[:1]
    )


async def _try_all(specs: Iterable[ForkServerSpec]) -> list[str | None]:
    try:
        async with Keeper() as keeper:
            free = asyncio.Semaphore(AT_ONCE)
            return await asyncio.gather(*(_try(keeper, each, free) for each in specs))
    except KeeperLost as error:
        return [str(error) for _ in specs]


async def _try(keeper: Keeper, spec: ForkServerSpec, free: asyncio.Semaphore) -> str | None:
    try:
        async with free:
            await keeper.warm(spec, timeout_s=CHECK_S)
    except ForkServerFailed as error:
        return f"{spec.python}: {error.problem}"
    return None
