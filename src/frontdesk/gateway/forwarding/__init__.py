"""Any node serves any request: one for another node's session is passed on to that node.

    forwarding     what the gateway asks: whether a request goes elsewhere, and how it gets there
    passed_request, passed_socket     one request, or WebSocket, that another node answers
    request_copy, answer_copy, destination     what of it travels, what comes back, and where to
    private_listener, owner_application     where other nodes' requests come in, and whose they are
    node_calls     what nodes ask each other for themselves
    hops, node_connections, hop_connection     how a request gets there, and whether anybody is
    claims, signing, nonces     what travels with a request, and how the other side knows it is true

A caller's key never leaves the node that it came to. One hop, never two: the node that a request
is passed to answers it, or says that the session is not there.
"""

from __future__ import annotations
