"""Any node serves any request: one for another node's session is passed on to that node.

    forwarding     what the gateway asks: whether a request goes elsewhere, and how it gets there
    destination     where to
    passed_request, passed_socket     one request, or WebSocket, that another node answers
    request_copy, answer_copy     what of it travels, and what comes back
    session_lists, stored_lists, list_cursors, operator_views     what is asked of all nodes
    node_row_questions     rows that follow, and last ends, of all nodes
    node_drains     what an operator tells one of them
    private_listener, owner_application     where other nodes' requests come in, and whose they are
    node_calls     what nodes ask each other for themselves
    hops, node_connections, hop_connection     how a request gets there, and whether anybody is
    claims, signing, nonces     what travels with a request, and how the other side knows it is true

A caller's key never leaves the node that it came to. One hop, never two: the node that a request
is passed to answers it, or says that the session is not there. Which path is answered where:

    /v1/sessions/{sessionId}        by the session's node, or the one on which it ended
    POST /v1/sessions               here; by another node where this one drains, or that one has the
                                    idempotency key
    GET /v1/sessions                by all nodes, and by what they store
    POST /v1/sessions/import        here
    /v1/usage                       here: the meter of all nodes is one
    /ops/usage                      here, likewise
    /v1/feed                        here; the sessions of all nodes
    /v1/ends                        by all nodes
    /v1/blueprints                  here: each node has its own configuration
    /v1/models                      here
    /healthz                        here; the number of sessions is that of all nodes
    /readyz                         here
    /ops/status                     here; numbers that add up are those of all nodes
    /ops/feed                       here; the sessions of all nodes
    /ops/ends                       by all nodes
    /ops/sessions                   by all nodes
    /ops/sessions/{tenant}/{sessionId}    by the session's node, and so is what is below
    /ops/nodes                      here, by what this node last heard of the others
    /ops/nodes/{node}/drain         by that node
    /ops/tenants/{tenant}/conversations    by all nodes
    /metrics                        here; of workers, by any one for all of its service
    /.well-known/agent.json         here
    /openapi.json                   here
    /docs                           here
    /                               here; the dashboard
    /dashboard/                     here
"""

from __future__ import annotations
