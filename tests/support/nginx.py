"""A real nginx with the example of `ops/`, in front of a gateway under test."""

import os
import re
import shutil
import signal
import ssl
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.engines import certificates, free_port
from support.installed import missing
from support.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "ops/nginx.conf"
START_S = 30
AROUND = """\
daemon off;
{user}
worker_processes 2;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 512; }}
http {{
    {temporary}
    include {directory}/frontdesk.conf;
}}
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """A running nginx: its address, and clients that trust its certificate."""

    def __init__(self, directory, port, files, process):
        self.url = f"https://localhost:{port}"
        self.port, self.authority = port, files.authority
        self._directory, self.process = directory, process

    def client(self, secret, *, address="127.0.0.1", **options):
        trusting = ssl.create_default_context(cafile=self.authority)
        transport = httpx.HTTPTransport(verify=trusting, local_address=address)
        headers = {"X-API-Key": secret} if secret else {}
        return httpx.Client(
            base_url=self.url, transport=transport, headers=headers, timeout=30, **options
        )

    @property
    def log(self):
        return (self._directory / "access.log").read_text()

    @property
    def errors(self):
        return (self._directory / "error.log").read_text()

    def workers(self):
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(map(int, found.split()))

    def reload(self):
        """Reload, and return once other workers serve."""
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(self.workers() - before) >= 2, within_s=START_S)


@contextmanager
def nginx(directory, upstream_port, **replaced):
    """Run nginx with the example: of its directives, those `replaced` have other values."""
    program = shutil.which("nginx") or missing("nginx")
    directory.mkdir(exist_ok=True)
    files, port = certificates(directory), free_port()
    values = {
        "server": f"127.0.0.1:{upstream_port}",
        "listen": f"127.0.0.1:{port} ssl http2",
        "server_name": "localhost",
        "ssl_certificate": files.server,
        "ssl_certificate_key": files.server_key,
        "access_log": f"{directory}/access.log frontdesk",
        **replaced,
    }
    text = EXAMPLE.read_text()
    for name, value in values.items():
        text, times = re.subn(rf"(?m)^(\s*{name}\s+)[^;{{]+;", rf"\g<1>{value};", text)
        assert times == 1, name
    (directory / "frontdesk.conf").write_text(text)
    around = AROUND.format(
        directory=directory,
        user="user root;" if os.geteuid() == 0 else "",
        temporary="\n    ".join(f"{kind}_temp_path {directory}/{kind};" for kind in KINDS),
    )
    (directory / "nginx.conf").write_text(around)
    command = [program, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        running = Nginx(directory, port, files, process)
        eventually(lambda: answers(running), within_s=START_S)
        yield running
    finally:
        process.terminate()
        process.wait(START_S)


def answers(running):
    try:
        with running.client(None) as client:
            return client.get("/").status_code < 500
    except httpx.TransportError:
        return False
