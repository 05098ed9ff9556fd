"""An agent with rules of its own, as a user's module has them."""

from frontdesk.agents import RestartLimit, blueprint


@blueprint(
    "ruled",
    models=("author-*",),
    attachments=("author/*",),
    tools=frozenset({"look"}),
    options=frozenset({"system_prompt"}),
    plugins=frozenset({"shell"}),
    errors_end="session",
    restart="always",
    restart_limit=RestartLimit(5, 33.0),
    max_age_s=99.0,
    turn_timeout_s=11.0,
    idle_timeout_s=None,
    unused_timeout_s=12.0,
    max_sessions_per_tenant=3,
)
async def ruled(turn):
    """Say the prompt."""
    yield turn.text


async def unruled(turn):
    """Say the prompt, by no rules."""
    yield turn.text
