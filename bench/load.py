"""What servers are made to do: the agents of the benchmark, and what baselines send instead.

Imported by the gateway under measurement (its configuration names these blueprints), by the bare
server and by the scenes. The agents are as small as agents can be, so that what is measured is the
house and not they.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter_ns

from frontdesk.agents import Turn, blueprint

WORD = "word "
PACE_S = 0.02
"""Between two events of a paced stream: about the rate of a language model's tokens."""

WORK_S = 0.005
"""How long `worker` works before it says anything."""

FRAME = b"""id: 17-1042
event: message_delta
data: {"requestId":"req_0123456789abcdef","delta":"word "}

"""
"""What `flood` and `pace` send, as the gateway frames it."""

TABLE = """
[blueprints.{name}]
kind = "python"
target = "bench.load:{name}"
isolation = "{isolation}"
idle_timeout_s = 86400
unused_timeout_s = 86400
"""


def tables(*names: str, isolation: str = "task") -> str:
    """Return the configuration of some of the agents below."""
    return "".join(TABLE.format(name=name, isolation=isolation) for name in names)


@blueprint("parrot")
async def parrot(_: Turn) -> AsyncGenerator[str, None]:
    """Say one word."""
    yield WORD


@blueprint("flood")
async def flood(turn: Turn) -> AsyncGenerator[str, None]:
    """Say as many words as the prompt says, at once."""
    for _ in range(int(turn.text)):
        yield WORD


@blueprint("pace")
async def pace(turn: Turn) -> AsyncGenerator[str, None]:
    """Say as many words as the prompt says, one by one."""
    for _ in range(int(turn.text)):
        await asyncio.sleep(PACE_S)
        yield WORD


@blueprint("worker")
async def worker(_: Turn) -> AsyncGenerator[str, None]:
    """Work for a while, and say how many nanoseconds that took."""
    start = perf_counter_ns()
    await asyncio.sleep(WORK_S)
    yield str(perf_counter_ns() - start)


@blueprint("census")
async def census(turn: Turn) -> AsyncGenerator[str, None]:
    """Count the tasks of the process that this agent lives in; `settle` collects garbage first."""
    if turn.text == "settle":
        gc.collect()
    status = Path("/proc/self/status").read_text()
    threads = int(status.partition("Threads:")[2].split()[0])
    yield json.dumps({"tasks": len(asyncio.all_tasks()), "threads": threads})
