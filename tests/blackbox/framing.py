"""Frames of WebSockets and heads of HTTP as plain bytes, for whoever asks over sockets."""

import struct


def frame(first, payload, mask=bytes(4)):
    """Write a client's frame."""
    if len(payload) < 126:
        head = struct.pack("!BB", first, 0x80 | len(payload))
    elif len(payload) < 2**16:
        head = struct.pack("!BBH", first, 0xFE, len(payload))
    else:
        head = struct.pack("!BBQ", first, 0xFF, len(payload))
    return head + mask + masking(payload, mask)


def masking(payload, mask):
    if not any(mask):
        return payload
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def handshake(path, key):
    lines = (
        f"GET {path} HTTP/1.1",
        *("Host: x", "Connection: Upgrade", "Upgrade: websocket", f"X-API-Key: {key}"),
        *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    )
    return "\r\n".join([*lines, "", ""]).encode()


def frames_in(received):
    """Yield (opcode, payload) of the whole frames that a server sent."""
    while len(received) >= 2:
        size, start = received[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(received[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(received[2:10], "big"), 10
        if len(received) < start + size:
            return
        yield received[0] & 0x0F, received[start : start + size]
        received = received[start + size :]


def until_head(connection):
    """Return the head of an answer, and what came after it."""
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
        received += chunk
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest
