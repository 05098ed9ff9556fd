"""An identity provider for tests: signs real tokens, and serves its keys over HTTP on loopback."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example.com/", "frontdesk"
MAKES = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "PS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "ES384": (lambda: ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Signer:
    """A private key, and what is published of it."""

    def __init__(self, key_id="k1", *, algorithm="ES256"):
        make, self._kind = MAKES[algorithm]
        self.key_id, self.algorithm, self.private = key_id, algorithm, make()

    def jwk(self, **more):
        published = json.loads(self._kind.to_jwk(self.private.public_key()))
        return {**published, "kid": self.key_id, "use": "sig", **more}

    def token(self, *, without=(), head=None, **claims):
        now = int(time.time())
        said = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme",
            "scope": "openid read prompt approve create delete", "iat": now, "exp": now + 600,
            **claims,
        }  # fmt: skip
        said = {name: value for name, value in said.items() if name not in without}
        headers = {"kid": self.key_id, **(head or {})}
        return jwt.encode(said, self.private, algorithm=self.algorithm, headers=headers)


class Provider(BaseHTTPRequestHandler):
    """Serve what the test has put there; wait first where it says so."""

    def do_GET(self):
        self.server.asked += 1
        assert self.server.may_answer.wait(30)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@contextmanager
def provider(*signers, content=None):
    """Run a server of keys: `url`, `publish`, and how often it was `asked`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    server.asked, server.status, server.location = 0, 200, None
    server.may_answer = threading.Event()
    server.may_answer.set()

    def publish(*signers):
        server.content = json.dumps({"keys": [each.jwk() for each in signers]}).encode()

    server.publish = publish
    publish(*signers)
    if content is not None:
        server.content = content
    server.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        thread.join(20)
        server.server_close()
