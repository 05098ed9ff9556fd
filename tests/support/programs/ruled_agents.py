"""An agent with rules of its own, as a user's module has them."""

from frontdesk.agents import blueprint


@blueprint(
    "ruled",
    models=("author-*",),
    tools=frozenset({"look"}),
    options=frozenset({"system_prompt"}),
    restart="always",
    turn_timeout_s=11.0,
    idle_timeout_s=None,
    unused_timeout_s=12.0,
    max_sessions_per_tenant=3,
)
async def ruled(turn):
    """Say the prompt."""
    yield turn.text
