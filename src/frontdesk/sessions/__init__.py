"""The session service: conversations, turns, event log, supervision. It knows no HTTP.

    tenant_sessions     the sessions as one tenant sees them; over
    service             opens, finds and ends sessions; its life. Over
    session_opening     how they are opened, forked, imported, given agents again; over
    session_host        what is here, and what follows from what the registry says
    admission           what a client asks for, held against what the operator allows
    reservations        places of sessions whose entry is still to come: limits hold in a burst
    live                the sessions of now, each with its agent, and those that ended recently
    keeping             stored sessions without an agent: loaded, ended, unloaded; its settings in
                        keeping_settings, what it reads in stored_life, earlier_life, remembered;
                        over storage_access, which finds, claims and reads one without holding it
    resuming            gives them agents, again and again; whether they can have one, in resumable
    retention, trimming, storage_patience
                        what does not stay stored, and what turns do while nothing can be
    takeover, recovery  what another process left, claimed and brought to rest
    stored_sessions     what can be asked of sessions that outlive their agents; lists, in listing
    forking             what a fork takes of another; remembered, how far agents' memory reaches
    checkpoints         names for the ends of turns
    exporting, importing    a session as JSON lines (portable_lines), held against each other in
                        portable_parts
    supervision         starts and ends agents, writes the registry, decides what an end means; over
    agent_starts        how one is started and entered
    cluster_entries     the same on all nodes, where there are others: a place first, then the entry
    supervised_agent    what the registry monitors where a session has a word in the reason
    runner              the one task of a session: its turns, one after another
    conversation        what a client sees of a session, and may ask of it; over
    session_turns       its turns, how they begin and end; over
    session_state       what it is; made of the parts below
    running_turn        the turn under way, as its agent sees it; turn_parts, what it shares
    turn_suspension     while it waits for somebody, what another agent could go on from;
                        suspended_turn, one that waits without an agent; turn_memories, what its
                        agent leaves for the next
    transcript          its messages, for the history
    input_checks        what is asked before anything reaches an agent
    attachment_room     which files may come with a prompt, and how many bytes of them are held
    output_filter       its text on the way out, as guardrails see it
    turn_ends           how turns ended, for whoever waits for that and reads no stream
    event_log, event_reader, history, queue, pending, callback_tools, expiry, phases
    context, hooks      what all sessions share; what the gateway (or an embedder) gives to them
    dry_run             one turn of a blueprint without a service

The public names are imported when they are asked for: modules of this package import each other,
and none should have to wait for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from frontdesk.sessions import errors as _errors
from frontdesk.sessions.errors import *  # noqa: F403 - each is public

if TYPE_CHECKING:
    from frontdesk.sessions.context import SessionSettings
    from frontdesk.sessions.conversation import Conversation
    from frontdesk.sessions.event_reader import EventReader
    from frontdesk.sessions.hooks import (
        PENDING,
        Budgets,
        Guardrails,
        MessageSoFar,
        Meter,
        SessionObserver,
        ToolCaller,
    )
    from frontdesk.sessions.service import SessionService
    from frontdesk.sessions.tenant_sessions import TenantSessions

_MODULE_OF = {
    "Conversation": "conversation",
    "EventReader": "event_reader",
    "Guardrails": "hooks",
    "MessageSoFar": "hooks",
    "Meter": "hooks",
    "SessionObserver": "hooks",
    "SessionService": "service",
    "SessionSettings": "context",
    "TenantSessions": "tenant_sessions",
    "ToolCaller": "hooks",
    "Budgets": "hooks",
    "PENDING": "hooks",
}

__all__ = [
    "SessionService",
    "SessionSettings",
    "TenantSessions",
    "Conversation",
    "EventReader",
    # what an embedder may give to the service
    "Guardrails",
    "MessageSoFar",
    "PENDING",
    "Budgets",
    "Meter",
    "SessionObserver",
    "ToolCaller",
]
__all__ += _errors.__all__


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
