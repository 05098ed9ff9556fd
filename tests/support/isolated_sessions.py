"""A service whose agents live in processes, for tests: opened, and left without anybody behind."""

import asyncio
from contextlib import asynccontextmanager

import support.programs.process_agents
import support.sessions
from frontdesk.agents.builtin import python_process_blueprint
from frontdesk.keeper.client import Keeper

ISOLATIONS = ("task", "process")


def isolated(name, *, keeper, rules=None, **fields):
    """Make a blueprint that runs a program of `process_agents` in processes."""
    target = f"support.programs.process_agents:{name}"
    return python_process_blueprint(name, target, keeper=keeper, rules=rules, **fields)


@asynccontextmanager
async def open_isolated(*names, rules=None, fields=None, blueprints=(), **options):
    """Open a service over processes; when it is closed, none of them is left."""
    keeper = Keeper()
    made = [isolated(name, keeper=keeper, rules=rules, **(fields or {})) for name in names]
    made += [make(keeper) for make in blueprints]
    async with keeper:
        async with support.sessions.open_service(*made, **options) as service:
            service.keeper = keeper
            yield service
        async with asyncio.timeout(support.sessions.BOUND_S):
            while len(keeper):
                await asyncio.sleep(0.001)


@asynccontextmanager
async def open_either(isolation, name, **options):
    """Open a service whose agents live as tasks, or in processes."""
    if isolation == "process":
        async with open_isolated(name, **options) as service:
            yield service
    else:
        async with support.sessions.open_service(
            getattr(support.programs.process_agents, name), **options
        ) as service:
            yield service
