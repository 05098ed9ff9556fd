"""The dashboard in a Chromium, with a stream that is made up: what the page does with much of it.

Below `dashboard`; the tests of the page use the same stream. What gateways send is measured
elsewhere: here the page alone is asked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
MADE_UP = """
window.sources = [];
window.EventSource = class extends EventTarget {
  constructor(url) { super(); this.url = url; sources.push(this); }
  close() {}
  say(name, text, lastEventId) {
    this.dispatchEvent(new MessageEvent(name, {data: text, lastEventId}));
  }
};
window.rowOf = (n, state = "idle") => ({
  tenantId: "acme", sessionId: `s-${n}`, fence: String(n), state, createdAt: Date.now() - n,
  lastActivityAt: Date.now() - n, blueprint: "parrot", model: "test", turns: n, tokens: n,
  costUsd: 0, approvals: 0, questions: 0, keyId: "k", node: "",
});
window.painted = (test) => new Promise((done) => {
  const look = () => requestAnimationFrame(() => (test() ? setTimeout(done) : look()));
  look();
});
window.rowsPainted = async (many) => {
  const pages = [];
  for (let first = 0; first < many; first += 500) {
    const rows = Array.from({length: Math.min(500, many - first)}, (_, at) => rowOf(first + at));
    const last = first + 500 >= many;
    pages.push(JSON.stringify({rows, first: first === 0, last, total: many}));
  }
  const none = {rows: [], first: true, last: true, total: 0};
  sources.at(-1).say("snapshot", JSON.stringify(none), "x-0");
  await painted(() => !document.querySelector("[aria-rowcount]"));
  const began = performance.now();
  for (const each of pages) sources.at(-1).say("snapshot", each, "x-1");
  await painted(() => document.querySelector(`[aria-rowcount="${many + 1}"]`));
  return performance.now() - began;
};
window.changeRows = (batches, each) => {
  const states = ["idle", "working", "waiting_approval"];
  let n = 0;
  window.answered = [];
  window.changes = 0;
  setInterval(() => {
    const changed = Array.from({length: each}, () => rowOf(n++ % 10_000, states[n % 3]));
    changes += each;
    sources.at(-1).say("rows", JSON.stringify({changed, gone: [], left: []}), `x-${n}`);
  }, 1000 / batches);
  addEventListener("keydown", ({timeStamp}) => requestAnimationFrame(() => setTimeout(
    () => answered.push(performance.now() - timeStamp))), true);
};
"""
"""In place of the browser's stream one that is spoken on, and a clock around what is painted."""


def installed() -> str | None:
    """Return where a Chromium is, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def opened(url: str, secret: str) -> Iterator[Page]:
    """Open the dashboard with a key, its stream made up."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(MADE_UP)
        page.goto(url)
        page.get_by_label("API key").fill(secret)
        page.keyboard.press("Enter")
        page.wait_for_function("() => window.sources.length === 1")
        try:
            yield page
        finally:
            browser.close()
