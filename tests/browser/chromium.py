"""Chromium as the tests drive it: tabs that are watched, logged in, and looked at by axe-core.

A tab fails its test over anything that its page complains of: a line on the console, an error, what
its policy refuses, a request that fails. A test that means to see one says so (`Tab.expect`).
"""

import os
import re
import shutil
from contextlib import contextmanager
from functools import cache
from importlib.resources import files

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from gateway.running import ACME, OPERATOR

WAIT_MS, START_MS = 30_000, 90_000
expect.set_options(timeout=WAIT_MS)
ELSEWHERE = "frontdesk.test"
"""A host that is this machine, and to a browser is not."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
)
SIZES = {"wide": (1280, 800), "narrow": (360, 740)}
LEFT_ALONE = re.compile(r"/(feed|events)(\?|$)|/icon\.svg$")
FIGURES = re.compile(r"/(v1/sessions/[^/?]+(/stats|/status)?|ops/sessions/[^/?]+/[^/?]+)$")
"""What a session's page asks for now and then."""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COOKIE = "frontdesk"


@contextmanager
def chromium():
    """Run a Chromium; skipped where there is none, but not in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None and "CI" not in os.environ:
        pytest.skip("no Chromium here")
    assert program, "CI needs Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(FLAGS), timeout=START_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def login_of(url, secret):
    """Log in with a key as the page does, and return the cookie's value."""
    headers = {"Sec-Fetch-Site": "same-origin", "X-Frontdesk": "1"}
    answer = httpx.post(
        f"{url}/dashboard/login",
        json={"key": secret},
        headers=headers,
        trust_env=False,
        timeout=WAIT_MS / 1000,
    )
    assert answer.status_code == 200, answer.text
    return answer.cookies[COOKIE]


class Tab:
    """A page of the dashboard, and what it complains of. `page` is Playwright's."""

    def __init__(self, browser, url, *, secret=None, size="wide", clock=False, **look):
        self.url = url
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, locale="en-GB", **look
        )
        self.context.set_default_timeout(WAIT_MS)
        if secret is not None:
            self.log_in(secret)
        self.page = self.context.new_page()
        self.complaints, self._expected = [], []
        if clock:
            # The page's time: it goes on by itself, and moves when the test moves it.
            self.page.clock.install()
        page = self.page
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._complain(f"error: {error}"))
        page.on("requestfailed", self._on_failed)

    def _on_console(self, said):
        # A session may end while its page asks for its figures: it has not been told yet.
        if "status of 404" in said.text and FIGURES.search(said.location["url"]):
            return
        self._complain(f"console {said.type}: {said.text}")

    def _on_failed(self, request):
        # A stream that the page closes itself is no failure, nor is what a page that is left was
        # still being sent.
        if request.failure == "net::ERR_ABORTED" and LEFT_ALONE.search(request.url):
            return
        self._complain(f"failed: {request.method} {request.url} {request.failure}")

    def _complain(self, what):
        self.complaints.append(what)

    def expect(self, pattern):
        """Take complaints that match this as they come: they are meant."""
        self._expected.append(re.compile(pattern))

    def unexpected(self):
        """Return what the page complains of that nobody expects."""
        return [
            each for each in self.complaints if not any(one.search(each) for one in self._expected)
        ]

    def log_in(self, secret):
        """Have the cookie of a key."""
        value = login_of(self.url, secret)
        self.context.add_cookies(
            [{"name": COOKIE, "value": value, "url": self.url, "httpOnly": True,
              "sameSite": "Strict"}]
        )  # fmt: skip

    def open(self, place="#/sessions"):
        """Open a page of the dashboard, and wait until it is drawn."""
        self.page.goto(f"{self.url}/{place}")
        self.page.wait_for_selector("main h1")
        return self.page

    def go(self, place):
        """Go to another page of the dashboard, without loading it anew."""
        self.page.evaluate("place => { location.hash = place; }", place)

    def findings(self):
        """Return what axe-core finds wrong with the page as it stands: rule, and where."""
        session = self.context.new_cdp_session(self.page)
        # By the browser's own door: the page's policy lets no script of ours in.
        session.send("Runtime.evaluate", {"expression": axe_core()})
        found = session.send(
            "Runtime.evaluate",
            {
                "expression": f"axe.run(document, {{runOnly: {WCAG}}}).then(all =>"
                " all.violations.map(one => [one.id, one.nodes.map(node =>"
                " `${node.target} ${node.any.concat(node.all, node.none).map(x => x.message)}`)]))",
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        session.detach()
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    def sideways(self):
        """Return by how many pixels the page can be scrolled sideways."""
        return self.page.evaluate(
            "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        )

    def close(self):
        """Close the tab with all that it has."""
        self.context.close()


@cache
def axe_core():
    """Return axe-core, as the package that brings it has it."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


SECRETS = {"tenant": ACME, "operator": OPERATOR}
PAGES = {
    "tenant": ("Sessions", "Ends", "Usage"),
    "operator": ("Sessions", "Ends", "Nodes", "Usage"),
}
"""Of whose key, which pages there are."""
