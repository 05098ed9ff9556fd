"""The gateway: HTTP, server-sent events and WebSocket over the session service.

From the top down, in the order in which a request meets them:

    server, http_protocol, websocket_protocol     uvicorn with bounds, signals and a shutdown
    client_connection     what every connection is held to
    middleware                what every request passes, by what `paths` says of its path
    request_context           one request, from there on
    auth, callers     who asks; scopes, what they may do
    key_ring, key_file, keys, session_tokens     by what they are known
    bearer_tokens, identity_provider, signing_keys     and by somebody else's word
    rate_limit, cors, forwarded, access_log     what else the middleware asks
    app, routes/              everything that is answered at once
    elsewhere, forwarding/     what is answered by other nodes
    sse, websocket, event_frames, open_streams, turn_waits     what stays open
    dependencies, actions, attachment_reader, queries, idempotency     what routes and streams share
    body_schemas     what is in JSON bodies; of answers, `frontdesk.schemas`
    error_table, error_answers, problems, errors     how errors are answered
    openapi, docs_page     how all is described

Beside them: `gateway` holds what all requests share, by `settings`, `auth_settings` and
`blueprint_settings` (made of `setting_types`, read by `config`, held against the machine by
`surroundings` over `interpreter_checks`) and `blueprint_config` (over `blueprint_kinds`), with
`known_blueprints`, `budgets` (over `spending` and `metering`, over `usage_table`; told by
`usage_readings`), `guardrails`
(over `patterns`), `tool_webhooks` (over `ssrf`, over `tenant_slots`), `state_dir`, and, with other
nodes, `cluster_member`, `cluster_rate`, `cluster_usage`, `config_digest`, `placement`; `log_events`
lists what the log has lines of (`session_log` writes those of sessions), and `logs` (over
`log_lines`, `log_writer`, `repeated_errors`) is for the command line. What a session can do is not
here: it lives below, in `frontdesk.sessions`.

The public names are imported when they are asked for: what needs only an error or the key need not
load a web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from frontdesk.errors import MissingExtra
from frontdesk.gateway import errors as _errors
from frontdesk.gateway.errors import *  # noqa: F403 - each is public, and no framework comes with it

if TYPE_CHECKING:
    from frontdesk.gateway.app import create_app
    from frontdesk.gateway.config import load_config
    from frontdesk.gateway.gateway import Gateway
    from frontdesk.gateway.keys import Key, keys_from_text
    from frontdesk.gateway.scopes import KeyScope
    from frontdesk.gateway.settings import Config

_MODULE_OF = {
    "Config": "settings",
    "Gateway": "gateway",
    "Key": "keys",
    "KeyScope": "scopes",
    "create_app": "app",
    "keys_from_text": "keys",
    "load_config": "config",
}

__all__ = [
    "create_app",
    "Gateway",
    "Config",
    "load_config",
    "Key",
    "KeyScope",
    "keys_from_text",
]
__all__ += _errors.__all__


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith("frontdesk"):
            raise
        raise MissingExtra("gateway", part=__name__, missing=missing) from error
