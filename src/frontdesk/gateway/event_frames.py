"""Events as streams and WebSockets send them: each has one encoding in each form.

Below `sse.py` and `websocket.py`. An encoding is stored with its event as long as streams of no
other form read the same session (`LoggedEvent.encoded`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from frontdesk.agents.events import Error, Gap
from frontdesk.sessions.event_log import LoggedEvent

FrameEncoder = Callable[[LoggedEvent], bytes]


def named_frame(logged: LoggedEvent) -> bytes:
    """Encode an event for event streams."""
    head = f"id: {logged.id}\nevent: {logged.name}\ndata: ".encode()
    return b"%b%b\n\n" % (head, logged.json)


def enveloped_frame(logged: LoggedEvent) -> bytes:
    """Encode an event for event streams as a message without a name, for `onmessage`.

    A browser's own `error` event cannot be told from one of ours: here none has a name.
    """
    return b"id: %b\ndata: %b\n\n" % (logged.id.encode(), socket_message(logged))


def socket_message(logged: LoggedEvent) -> bytes:
    """Encode an event for WebSockets: `{"event", "data", "index"}`."""
    return b'{"event":"%b","data":%b,"index":%d}' % (
        logged.name.encode(),
        logged.json,
        logged.index,
    )


def frames(batch: list[LoggedEvent] | Gap, encoder: FrameEncoder) -> bytes:
    """Return what the reader gave as the bytes of a stream."""
    if isinstance(batch, Gap):
        # Without an id: it is no event of the session.
        gap = msgspec.json.encode(batch)
        if encoder is enveloped_frame:
            return b"data: %b\n\n" % _socket_gap(batch)
        return b"event: %b\ndata: %b\n\n" % (Error.name.encode(), gap)
    if len(batch) == 1:
        return batch[0].encoded(encoder)
    return b"".join([logged.encoded(encoder) for logged in batch])


def messages(batch: list[LoggedEvent] | Gap) -> list[bytes]:
    """Return what the reader gave as WebSocket messages."""
    if isinstance(batch, Gap):
        return [_socket_gap(batch)]
    return [logged.encoded(socket_message) for logged in batch]


def _socket_gap(gap: Gap) -> bytes:
    return b'{"event":"%b","data":%b}' % (Error.name.encode(), msgspec.json.encode(gap))
