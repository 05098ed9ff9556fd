"""A real browser: fetch and EventSource from a page of another origin."""

import json
import os
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.requirements import covers
from gateway.running import ACME, create

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = """<!doctype html><script>
const [url, key, session] = %s;
const seen = [];
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify({what, seen})});
const post = (path, body) => fetch(`${url}/v1/sessions/${session}${path}`, {
  method: "POST", body: JSON.stringify(body),
  headers: {"X-API-Key": key, "Content-Type": "application/json"},
});
const source = new EventSource(`${url}/v1/sessions/${session}/events?api_key=${key}`);
const types = ["prompt_received", "message_delta", "agent_end", "session_end"];
for (const type of types) source.addEventListener(type, (event) => {
  seen.push([type, event.lastEventId, JSON.parse(event.data)]);
  if (type === "agent_end") report("turn");
});
source.onopen = () => { if (!seen.length) post("/prompt", {text: "hello from a page"}); };
source.onerror = () => { if (source.readyState === EventSource.CLOSED) report("closed"); };
</script>"""


class Site(BaseHTTPRequestHandler):
    """Serve the page, and take its reports."""

    def do_GET(self):
        self.answer(self.server.page.encode(), "text/html")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.reports.put(json.loads(body))
        self.answer(b"", "text/plain")

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.reports = queue.Queue()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(20)
    server.server_close()


@pytest.fixture
def browse(tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None and "CI" not in os.environ:
        pytest.skip("no Chromium here")
    assert program, "CI needs Chromium"
    browsers = []

    def open_page(url):
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server",
            f"--user-data-dir={tmp_path}/profile", url,
        ]  # fmt: skip
        quiet = subprocess.DEVNULL
        browsers.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))

    yield open_page
    for browser in browsers:
        browser.terminate()
        browser.wait(20)


@covers("origins.every-origin", "keys.query", "streams.drained", "streams.resume")
def test_a_page_of_another_origin_prompts_and_follows_and_is_told_when_all_is_over(
    gateway, acme, sid, site, browse
):
    create(acme, sid)
    site.page = PAGE % json.dumps([gateway.url, ACME, sid])
    browse(f"http://localhost:{site.server_port}/")
    turn = site.reports.get(timeout=60)
    assert turn["what"] == "turn"
    assert [each[0] for each in turn["seen"]] == [
        "prompt_received", "message_delta", "message_delta", "message_delta", "message_delta",
        "agent_end",
    ]  # fmt: skip
    assert all(each[1] for each in turn["seen"])
    acme.delete(f"/v1/sessions/{sid}")
    closed = site.reports.get(timeout=60)
    assert closed["what"] == "closed"
    assert [each[0] for each in closed["seen"]].count("session_end") == 1
    assert [each[0] for each in closed["seen"]].count("agent_end") == 1
