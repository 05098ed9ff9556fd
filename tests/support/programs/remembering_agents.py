"""Agents that the tests start again: each remembers something in its own way."""

from frontdesk.agents.records import Memory


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
