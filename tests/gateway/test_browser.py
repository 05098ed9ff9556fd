"""A real browser: fetch and EventSource from a page of another origin."""

import asyncio
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn
from fastapi import Request
from fastapi.responses import StreamingResponse

from docs.pages import page
from frontdesk.gateway.server import bound_socket
from frontdesk.testing import ManualClock
from gateway.requirements import covers
from gateway.running import ACME, RunningGateway, create
from support.waiting import eventually

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


# -- the page of the documents -------------------------------------------------------------------

FROM_A_BROWSER = page("docs/how-to/from-a-browser.md")
WATCH = """<script type="module">
const said = document.querySelector("#said");
const report = () => fetch("/report", {method: "POST", body: said.textContent});
new MutationObserver(report).observe(said, {childList: true});
const form = document.querySelector("form");
const type = () => {
  if (form.hidden) return;
  watching.disconnect();
  new EventSource("/texts").onmessage = ({data}) => {
    form.elements.text.value = data;
    form.requestSubmit();
  };
};
const watching = new MutationObserver(type);
watching.observe(form, {attributes: true});
type();
</script>"""
"""What the test adds: it says what is shown, and types what the test wants."""


def block_of(language):
    return next(b.source for b in FROM_A_BROWSER.blocks if b.language == language)


class Backend:
    """The backend of the documents, as it stands there, served on a port of its own."""

    def __init__(self, folder):
        (folder / "page.html").write_text(block_of("html") + WATCH)
        module = {}
        exec(compile(block_of("python"), "backend.py", "exec"), module)
        self.shown, self._texts = queue.Queue(), queue.Queue()
        self.renewed = 0
        app = module["app"]
        app.post("/report")(self._report)
        app.get("/texts")(self._typed)
        app.middleware("http")(self._count)
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))

    async def _count(self, request: Request, answer):
        self.renewed += request.url.path.endswith("/token")
        return await answer(request)

    async def _report(self, request: Request):
        self.shown.put((await request.body()).decode())

    async def _typed(self):
        async def texts():
            while (text := await asyncio.to_thread(self._texts.get)) is not None:
                yield f"data: {text}\n\n"

        return StreamingResponse(texts(), media_type="text/event-stream")

    def type(self, text):
        self._texts.put(text)

    def wait_for(self, text):
        seen = ""
        until = time.monotonic() + 60
        while seen != text:
            seen = self.shown.get(timeout=until - time.monotonic())
        return seen

    @contextmanager
    def serving(self):
        with bound_socket("127.0.0.1", 0) as address:
            thread = threading.Thread(target=self._server.run, args=([address],))
            thread.start()
            try:
                yield f"http://localhost:{address.getsockname()[1]}/"
            finally:
                for _ in range(4):  # as many as could wait: a page comes again
                    self._texts.put(None)
                self._server.should_exit = True
                thread.join(30)


@covers("tokens.opens", "tokens.url", "tokens.ends-with-time")
def test_the_page_of_the_documents_streams_and_prompts_and_goes_on_with_a_new_token(
    tmp_path, monkeypatch, browse
):
    clock = ManualClock()
    clock.advance(time.time() - clock.wall_ms() / 1000)
    with RunningGateway(tmp_path / "state", clock=clock) as gateway:
        monkeypatch.setenv("FRONTDESK_URL", gateway.url)
        monkeypatch.setenv("FRONTDESK_KEY", ACME)
        monkeypatch.chdir(tmp_path)
        backend = Backend(tmp_path)
        with backend.serving() as url:
            browse(url)
            backend.type("hello from a page")
            first = "> hello from a page\nhello from a page \n"
            backend.wait_for(first)
            assert backend.renewed == 0
            clock.advance(901)
            # The stream ends with its token; the page follows with another one.
            eventually(lambda: backend.renewed == 1, within_s=60)
            eventually(lambda: gateway.call(lambda: len(gateway.gateway.streams)) == 1)
            backend.type("and again")
            backend.wait_for(first + "> and again\nand again \n")
            assert backend.renewed == 1
