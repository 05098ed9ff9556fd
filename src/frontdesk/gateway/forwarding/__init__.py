"""Any node serves any request: one for another node's session is passed on to that node.

    forwarding     what the gateway asks: whether a request goes elsewhere, and how it gets there
    claims, signing, nonces     what travels with a request, and how the other side knows it is true

A caller's key never leaves the node that it came to. One hop, never two: the node that a request
is passed to answers it, or says that the session is not there.
"""

from __future__ import annotations
