"""The gateway: HTTP, server-sent events and WebSocket over the agents' house.

From the top down: `server.py` (uvicorn, signals) and `wire.py` (bounds) run `front.py`, which every
request passes (key, limits, sizes; errors and the log on the way out), then `app.py` with the
routes, or a stream (`sse.py`, `websocket.py`). `gateway.py` holds what they share. `problems.py` is
the table of errors. What a session can do is not here: it lives below, in `frontdesk.agents`.
"""
