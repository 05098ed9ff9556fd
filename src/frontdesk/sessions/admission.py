"""What a client asks for, held against what the operator allows: it becomes a session's context.

Whatever is not known or not allowed is refused with a sentence for the client, before anything is
started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from frontdesk.agents.blueprints import Blueprint, Blueprints
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.ids import check_session_id, mint_session_id
from frontdesk.agents.records import CreateSession, SessionContext
from frontdesk.sessions.forking import ForkSource

OPTIONS = (
    "system_prompt",
    "working_dir",
    "tools",
    "plugins",
    "max_turns",
    "max_tokens",
    "skills_dirs",
    "provider_opts",
    "user_data",
    "prompt_mode",
)
"""The options of a request: what a blueprint may say that it does not know."""


def admit(
    request: CreateSession, *, tenant_id: str, blueprints: Blueprints, tenants_root: Path | None
) -> tuple[SessionContext, Blueprint]:
    """Return the context of the session that was asked for, and its blueprint.

    Raises `CreateFailed` (`ModelRefused`) for what may not be, `InvalidArgument` for an impossible
    session id. What the blueprint's own factory refuses is its own `check`.
    """
    name = request.blueprint if request.blueprint is not None else blueprints.default
    chosen = None if name is None else blueprints.get(name)
    if chosen is None:
        raise CreateFailed(f"there is no blueprint {str(name)[:120]!r}")
    if not chosen.allows(request.model):
        raise ModelRefused(request.model, problem=f"blueprint {chosen.name!r} does not allow it")
    given = _given_options(request, chosen)
    if request.working_dir is not None:
        given["working_dir"] = resolve(request.working_dir, tenant_id=tenant_id, root=tenants_root)
    if request.skills_dirs:
        given["skills_dirs"] = tuple(
            resolve(each, tenant_id=tenant_id, root=tenants_root) for each in request.skills_dirs
        )
    wanted = request.session_id
    session_id = mint_session_id() if wanted is None else check_session_id(wanted)
    context = SessionContext(
        session_id=session_id,
        tenant_id=tenant_id,
        blueprint=chosen.name,
        model=request.model,
        **given,
    )
    return context, chosen


def admit_fork(
    request: CreateSession, source: ForkSource, *, blueprints: Blueprints
) -> tuple[SessionContext, Blueprint]:
    """Return the context of a session that is a copy of another, and its blueprint.

    Its options are the other's, its model if the request names none. Raises what `admit` does.
    """
    of_source = source.options.context
    given = [each for each in ("blueprint", *OPTIONS) if getattr(request, each)]
    if given or request.max_turns is not None or request.max_tokens is not None:
        raise CreateFailed("a fork has the blueprint and the options of the session that it copies")
    chosen = blueprints.get(of_source.blueprint)
    if chosen is None:
        raise CreateFailed(f"there is no blueprint {of_source.blueprint!r} any more")
    model = request.model or source.model
    if not chosen.allows(model):
        raise ModelRefused(model, problem=f"blueprint {chosen.name!r} does not allow it")
    wanted = request.session_id
    session_id = mint_session_id() if wanted is None else check_session_id(wanted)
    context = msgspec.structs.replace(of_source, session_id=session_id, model=model)
    return context, chosen


def resolve(directory: str, *, tenant_id: str, root: Path | None) -> str:
    """Return a directory under the tenant's root, links followed; `CreateFailed` for any other."""
    if root is None:
        raise CreateFailed("this service gives sessions no directories")
    home = (root / tenant_id).resolve()
    try:
        place = (home / directory).resolve()
        if place.is_relative_to(home) and place.is_dir():
            return str(place)
    except (OSError, ValueError, RuntimeError):
        pass
    raise CreateFailed(f"{directory[:200]!r} is not a directory under your tenant's root")


def _given_options(request: CreateSession, chosen: Blueprint) -> dict[str, Any]:
    """Return the options that were given; refuse what the blueprint does not know or have."""
    given = {name: getattr(request, name) for name in OPTIONS if getattr(request, name)}
    for name, wire_name in (("max_turns", "maxTurns"), ("max_tokens", "maxTokens")):
        value = getattr(request, name)
        if value is not None:
            if value < 1:
                raise CreateFailed(f"{wire_name} must be 1 or more, got {value}")
            given[name] = value
    for field in msgspec.structs.fields(CreateSession):
        if field.name in given and chosen.options is not None and field.name not in chosen.options:
            raise CreateFailed(f"blueprint {chosen.name!r} does not know {field.encode_name}")
    for what, wanted, allowed in (
        ("tool", request.tools, chosen.tools),
        ("plugin", request.plugins, chosen.plugins),
    ):
        for each in wanted:
            if each not in allowed:
                raise CreateFailed(f"blueprint {chosen.name!r} has no {what} {each[:120]!r}")
    return given
