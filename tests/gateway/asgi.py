"""Ask an ASGI application without a server: any path, header and prefix, as bytes."""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """How an application answered."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def error(self):
        """The code of an error in our form; what is not in our form fails."""
        refusal = json.loads(self.body)
        assert isinstance(refusal["message"], str), refusal
        assert self.headers[b"content-type"] == b"application/json"
        return refusal["error"]


async def ask(
    app, raw_path, *, method="GET", headers=(), body=b"", root_path="", kind="http", stays=False
):
    """Send one request, as uvicorn would for these bytes, and return the answer.

    The client leaves when it has sent its request, unless it stays.
    """
    path, _, query = raw_path.partition("?")
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http" if kind == "http" else "ws",
        "path": root_path + unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": root_path.encode() + path.encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [*headers],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 4000),
        "state": {},
        "extensions": {"websocket.http.response": {}},
        "subprotocols": [],
    }
    opening = "websocket.connect" if kind == "websocket" else "http.request"
    coming = [{"type": opening, "body": body}]
    sent = []

    async def receive():
        if stays and not coming:
            await asyncio.Event().wait()
        return coming.pop() if coming else {"type": f"{kind}.disconnect", "code": 1005}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    status = sent[0].get("status", 101)
    content = b"".join(message.get("body", b"") for message in sent)
    return Answered(status, dict(sent[0].get("headers", ())), content)


def filled(path, session_id="none"):
    """A path of a route with its fields filled in: with this session, else with what is not there.

    Of the dashboard's files it is one that there is, as everybody may have those.
    """
    return path.format(
        sessionId=session_id, tenant="none", name="none", node="none", path="style.css"
    )
