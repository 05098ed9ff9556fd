"""What is asked before anything of a client's reaches an agent.

Below the conversation, whose verbs ask it, and beside the service, which asks it about a prompt
that comes with a session: one that is refused opens none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.values import json_value
from frontdesk.sessions.context import ServiceContext
from frontdesk.sessions.errors import Draining, GuardrailRefused
from frontdesk.sessions.hooks import refusal_of

T = TypeVar("T")


def filtered(value: T, *, service: ServiceContext, tenant_id: str) -> T:
    """Return what a client sends as it may go in, a `json_value`; `GuardrailRefused`."""
    value = json_value(value)
    guardrails = service.guardrails
    if guardrails is not None:
        why = refusal_of(guardrails.refuse_input, tenant_id, value)
        if why is not None:
            raise GuardrailRefused(why)
    return value


@contextmanager
def refusing_model(model: str, *, rules: Blueprint) -> Iterator[None]:
    """Refuse a model that clients may not ask for, and one that cannot be; `ModelRefused`."""
    if not rules.allows(model):
        raise ModelRefused(model, problem=f"blueprint {rules.name!r} does not allow it")
    try:
        yield
    except ModelRefused:
        raise
    except CreateFailed as error:
        raise ModelRefused(model, problem=error.problem) from error


def checked_prompt(
    text: str, *, service: ServiceContext, tenant_id: str, api_key: str | None
) -> str:
    """Return a prompt as it may go in; `Draining`, `BudgetExceeded`, `GuardrailRefused`."""
    if service.draining:
        raise Draining
    if service.budgets is not None:
        service.budgets.check(tenant_id, api_key)
    return filtered(text, service=service, tenant_id=tenant_id)
