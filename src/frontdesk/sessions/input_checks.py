"""What is asked before anything of a client's reaches an agent.

Below the conversation, whose verbs ask it, and beside the service, which asks it about a prompt
that comes with a session: one that is refused opens none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from frontdesk.agents.attachments import Attachment
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
    text: str,
    attachments: Sequence[Attachment] = (),
    *,
    service: ServiceContext,
    tenant_id: str,
    api_key: str | None,
) -> tuple[str, tuple[Attachment, ...]]:
    """Return a prompt as it may go in, with what comes with it.

    Raises `Draining`, `BudgetExceeded`, `GuardrailRefused`. Filters look at the names of
    attachments, and at the content of those that are text.
    """
    if service.draining:
        raise Draining
    if service.budgets is not None:
        service.budgets.check(tenant_id, api_key)
    text, *names = filtered(
        [text, *(each.name for each in attachments)], service=service, tenant_id=tenant_id
    )
    for each in attachments:
        if service.guardrails is not None and (content := each.text) is not None:
            why = service.guardrails.refuse_input(tenant_id, content)
            if why is not None:
                raise GuardrailRefused(f"attachment {each.name!r}: {why}")
    named = zip(attachments, names, strict=True)
    return text, tuple(msgspec.structs.replace(each, name=name) for each, name in named)
