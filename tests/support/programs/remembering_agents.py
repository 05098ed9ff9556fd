"""Agents that the tests start again: each remembers something in its own way."""

import ast
import asyncio
import contextlib

from frontdesk.agents import blueprint
from frontdesk.agents.records import Memory
from frontdesk.errors import InvalidArgument


class CountingProgram:
    """Say how many turns there were, and remember it. Anew, it counts the prompts of the history.

    A turn that was suspended goes on by saying what it was suspended with.
    """

    suspends = "counting"

    def check(self, context):
        """Refuse nothing."""

    def open(self, context):
        """Begin at nothing."""
        return self._counting(0)

    def reopen(self, context, restored):
        """Begin where the last one was."""
        if restored.memories:
            return self._counting(int(restored.memories[-1].content)), "kept"
        return self._counting(sum(each.role == "user" for each in restored.history) - 1), "rebuilt"

    def _counting(self, count):
        async def counting(turn):
            nonlocal count
            if turn.suspended is not None:
                yield turn.suspended.memory.content.decode()
                return
            count += 1
            turn.remember(Memory(kind="counting", version=1, content=b"%d" % count, replaces=True))
            yield str(count)

        return counting


counting_program = CountingProgram()


@blueprint("note_taker")
async def note_taker(turn):
    """Say what is in `turn.memory`, then do to it what the prompt says."""
    yield repr(turn.memory)
    verb, _, argument = turn.text.partition(" ")
    match verb:
        case "set":
            turn.memory = ast.literal_eval(argument)
        case "add":
            turn.memory["added"] = ast.literal_eval(argument)
        case "large":
            turn.memory = "x" * (2**20 - 1)
        case "object":
            turn.memory = object()
        case "fail":
            turn.memory["failed"] = True
            raise ValueError("as asked")
        case "wait":
            turn.memory["waits"] = True
            await asyncio.get_running_loop().create_future()
        case "refused":
            with contextlib.suppress(InvalidArgument):
                turn.memory = {"a set": {1}}
