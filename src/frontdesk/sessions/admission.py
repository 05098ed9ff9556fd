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
    chosen = _chosen(request.blueprint, blueprints)
    if not chosen.allows(request.model):
        raise ModelRefused(request.model, problem=f"blueprint {chosen.name!r} does not allow it")
    given = _given(request, chosen)
    _check_numbers(request)
    if request.working_dir is not None:
        given["working_dir"] = resolve(request.working_dir, tenant_id=tenant_id, root=tenants_root)
    if request.skills_dirs:
        given["skills_dirs"] = tuple(
            resolve(each, tenant_id=tenant_id, root=tenants_root) for each in request.skills_dirs
        )
    context = SessionContext(
        session_id=_session_id(request.session_id),
        tenant_id=tenant_id,
        blueprint=chosen.name,
        model=request.model,
        **given,
    )
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


def _chosen(name: str | None, blueprints: Blueprints) -> Blueprint:
    name = name if name is not None else blueprints.default
    chosen = None if name is None else blueprints.get(name)
    if chosen is None:
        raise CreateFailed(f"there is no blueprint {str(name)[:120]!r}")
    return chosen


def _session_id(wanted: str | None) -> str:
    return mint_session_id() if wanted is None else check_session_id(wanted)


def _given(request: CreateSession, chosen: Blueprint) -> dict[str, Any]:
    """Return the options that were given; refuse those that the blueprint does not know."""
    given = {name: getattr(request, name) for name in OPTIONS if getattr(request, name)}
    if request.max_turns is not None:
        given["max_turns"] = request.max_turns
    if request.max_tokens is not None:
        given["max_tokens"] = request.max_tokens
    unknown = [name for name in given if chosen.options is not None and name not in chosen.options]
    if unknown:
        raise CreateFailed(f"blueprint {chosen.name!r} does not know {_wire(unknown[0])}")
    _check_names("tool", request.tools, chosen.tools, chosen.name)
    _check_names("plugin", request.plugins, chosen.plugins, chosen.name)
    return given


def _check_names(
    what: str, wanted: tuple[str, ...], allowed: frozenset[str], blueprint: str
) -> None:
    for name in wanted:
        if name not in allowed:
            raise CreateFailed(f"blueprint {blueprint!r} has no {what} {name[:120]!r}")


def _check_numbers(request: CreateSession) -> None:
    for name, value in (("maxTurns", request.max_turns), ("maxTokens", request.max_tokens)):
        if value is not None and value < 1:
            raise CreateFailed(f"{name} must be 1 or more, got {value}")


def _wire(name: str) -> str:
    encoded: str = msgspec.structs.fields(CreateSession)[
        CreateSession.__struct_fields__.index(name)
    ].encode_name
    return encoded
