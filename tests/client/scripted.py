"""Servers of the tests' own: one that answers by a script, and a proxy that cuts on command."""

import contextlib
import json
import socket
import struct
import threading

WAIT_S = 30


def answer(status, body=b"", /, *headers):
    """Return a whole answer as bytes; a body that is no bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} X", f"content-length: {len(content)}", "connection: close")
    return "\r\n".join((*lines, *headers, "", "")).encode() + content


def stream(*frames, heartbeat=30, status=200):
    """Return the beginning of a stream with its frames, and no end."""
    head = (
        f"HTTP/1.1 {status} OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        f"x-frontdesk-heartbeat: {heartbeat}\r\nconnection: close\r\n\r\n: welcome\n\n"
    )
    return head.encode() + b"".join(frames)


def frame(name, data, event_id=None):
    """Return a frame as bytes."""
    told = "" if event_id is None else f"id: {event_id}\n"
    return f"{told}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class Threads:
    """An address at which each connection has a thread; all are ended at the end of the `with`."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads, self._open = [], set()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ended = False

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._ended = True
        for each in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _start(self, function, *args):
        thread = threading.Thread(target=self._quietly, args=(function, *args), daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _quietly(self, function, *args):
        # The other side has left, or the test has ended.
        with contextlib.suppress(OSError):
            function(*args)

    def _accept(self):
        while not self._ended:
            connection, _ = self._listener.accept()
            self._open.add(connection)
            connection.settimeout(WAIT_S)
            self._start(self._serve, connection)

    def _serve(self, connection):
        raise NotImplementedError


class Request:
    """A request as it came."""

    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class ScriptedServer(Threads):
    """Answers each connection by the next of a script; the last again and again.

    An answer is bytes, after which the connection is closed; or a function of the connection and
    the request.
    """

    def __init__(self, *script):
        super().__init__()
        self._script, self.requests = list(script), []
        self._lock = threading.Lock()

    def _serve(self, connection):
        with connection:
            request = self._read(connection)
            with self._lock:
                self.requests.append(request)
                act = self._script.pop(0) if len(self._script) > 1 else self._script[0]
            if callable(act):
                act(connection, request)
            else:
                connection.sendall(act)

    def _read(self, connection):
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536) or self._cut()
        head, _, body = received.partition(b"\r\n\r\n")
        request = Request(head, body)
        while len(request.body) < int(request.headers.get("content-length", 0)):
            request.body += connection.recv(65_536) or self._cut()
        return request

    def _cut(self):
        raise ConnectionError


def silent(connection, _request):
    """Hear a request and say nothing, until the other side has enough."""
    connection.recv(1)


class CuttingProxy(Threads):
    """Passes connections on; the first of them are cut after so many bytes of what is answered.

    `cuts` is a number of bytes for each connection, in order; those after them are left whole.
    `signs` is how many heartbeats have passed.
    """

    def __init__(self, port, *cuts, hard=False):
        super().__init__()
        self.to_port, self.cuts, self._hard = port, list(cuts), hard
        self.connections = self.signs = 0

    def _serve(self, connection):
        self.connections += 1
        left = self.cuts.pop(0) if self.cuts else None
        server = socket.create_connection(("127.0.0.1", self.to_port), WAIT_S)
        self._open.add(server)
        upwards = self._start(self._upwards, connection, server)
        try:
            while left != 0 and (piece := server.recv(65_536 if left is None else left)):
                self.signs += piece.count(b": still here")
                connection.sendall(piece)
                left = None if left is None else left - len(piece)
        finally:
            if left == 0 and self._hard:
                # Closed with this, it is a reset.
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.shutdown(socket.SHUT_RD)
            else:
                connection.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)
            # Not closed while another thread reads it: its number may be another's by then.
            upwards.join(WAIT_S)
            connection.close()
            server.close()

    def cut_all(self):
        """Break every connection that is open."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _upwards(self, connection, server):
        while piece := connection.recv(65_536):
            server.sendall(piece)
        server.shutdown(socket.SHUT_WR)
