"""The agents of the services that Prometheus scrapes in tests."""

from frontdesk.agents import Turn, blueprint


@blueprint("dying", errors_end="session")
async def dying(turn: Turn):
    """End its session by an error."""
    yield "I will "
    raise RuntimeError(turn.text)
