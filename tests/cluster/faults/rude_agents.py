"""Agents that do their node harm, take their time, or say what they know of their session."""

import asyncio
import time

from frontdesk.agents import Turn, blueprint


@blueprint("rude")
async def rude(turn: Turn):
    """Block the event loop of its node, for as many seconds as the prompt says."""
    yield "now "
    await asyncio.sleep(0.2)  # so that it is read
    time.sleep(float(turn.text))  # what a careless library does
    yield "again "


@blueprint("slow")
async def slow(turn: Turn):
    """Say as many words as the prompt says, one after another."""
    for number in range(int(turn.text)):
        yield f"{number} "
        await asyncio.sleep(0.02)


@blueprint("fenced")
async def fenced(turn: Turn):
    """Say the fence of the session: what it would pass along with what it writes elsewhere."""
    yield str(turn.fence)
