"""Pictures of the real thing: the dashboard in a browser, and a session at a terminal.

`make format` runs this where there is a Chromium. What a picture shows is kept beside it as text,
without numbers (`shown/`): a picture is taken anew when that text is another, and a test holds the
text to what is shown now. So a picture is true, and does not change with every clock.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from docs.pages import ROOT
from frontdesk.agents import Blueprints
from frontdesk.agents import demo as demonstration
from gateway.running import ACME, RunningGateway, create
from support.waiting import eventually

IMAGES = ROOT / "docs/images"
SHOWN = Path(__file__).with_name("shown")
SIZE = {"width": 1120, "height": 630}
MAX_PNG_BYTES = 80_000
COLUMNS = 92
WITHIN_S = 30
SCENE = (
    # session, blueprint, what it is told, the state that it gets to
    ("hello", "demo", "Who is in the building?", "idle"),
    ("refund-2214", "billing", "approve", "waiting_approval"),
    ("onboarding-31", "support", "ask", "waiting_input"),
    ("research-8", "research", "wait", "working"),
)
TYPED = (
    ("sessions", "ls"),
    ("sessions", "prompt", "hello", "tool"),
    ("sessions", "prompt", "hello", "crash"),
    ("sessions", "show", "hello"),
)


@contextmanager
def scene() -> Iterator[RunningGateway]:
    """Run a gateway with a few sessions, each in another state, and one that has crashed."""
    named = [replace(demonstration.demo, name=each) for _, each, _, _ in SCENE]
    pace, silence = demonstration.WORD_S, demonstration.SILENT_S
    demonstration.WORD_S, demonstration.SILENT_S = 0.002, 3600.0
    try:
        with (
            tempfile.TemporaryDirectory() as state,
            RunningGateway(Path(state), agents=Blueprints(named)) as gateway,
            gateway.client() as client,
        ):
            create(client, "triage-5", blueprint="demo", model="demo")
            client.post("/v1/sessions/triage-5/prompt", json={"text": "crash"})
            path = "/v1/sessions/triage-5"
            eventually(lambda: client.get(path).status_code == 404, within_s=WITHIN_S)
            for session_id, blueprint, told, state in SCENE:
                path = f"/v1/sessions/{session_id}"
                create(client, session_id, blueprint=blueprint, model="demo")
                client.post(f"{path}/prompt", json={"text": told})
                eventually(lambda at=path, to=state: is_in(client, at, to), within_s=WITHIN_S)
            yield gateway
    finally:
        demonstration.WORD_S, demonstration.SILENT_S = pace, silence


def is_in(client, path: str, state: str) -> bool:
    """Say whether a session has had its turn and is in a state."""
    told = client.get(path).json()
    return told["state"] == state and (state != "idle" or told["turns"] > 0)


def without_numbers(text: str) -> str:
    """Return what a picture shows, but for what is another one each time."""
    text = re.sub(r"\d[\d.,:]*", "N", text)
    lines = re.sub(r"\bN ?(ms|s|m|min|h|d)\b", "N s", text).splitlines()
    return "\n".join(line for each in lines if (line := " ".join(each.split()))) + "\n"


# -- the dashboard ---------------------------------------------------------------------------------


@contextmanager
def dashboard(gateway: RunningGateway, browser) -> Iterator:
    """Show the page of sessions, when all of the scene is on it."""
    from browser.chromium import Tab

    tab = Tab(browser, gateway.url, secret=ACME, color_scheme="light")
    try:
        tab.page.set_viewport_size(SIZE)
        page = tab.open("#/sessions")
        for session_id, *_ in SCENE:
            page.get_by_text(session_id, exact=True).first.wait_for()
        page.get_by_text("crashed").first.wait_for()
        yield page
    finally:
        tab.close()


def text_of(page) -> str:
    """Return what the page of sessions says, without numbers."""
    return without_numbers(page.inner_text("main"))


# -- the terminal ----------------------------------------------------------------------------------


def at_a_terminal(gateway: RunningGateway) -> list[tuple[str, str]]:
    """Type the commands at a terminal; return each with what it printed there."""
    typed = []
    for words in TYPED:
        typed.append((" ".join(("frontdesk", *words)), run(gateway, *words)))
        if words[-1] == "crash":
            # Its turn has ended, and its session is about to.
            with gateway.client() as client:
                path = "/v1/sessions/hello"
                eventually(lambda: client.get(path).status_code == 404, within_s=WITHIN_S)  # noqa: B023
    return typed


def run(gateway: RunningGateway, *words: str) -> str:
    """Return what a command prints at a terminal, colours included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {
        **os.environ, "FRONTDESK_URL": gateway.url, "FRONTDESK_KEY": ACME, "TERM": "xterm-256color",
    }  # fmt: skip
    for each in ("NO_COLOR", "LINES"):
        environment.pop(each, None)
    environment["COLUMNS"] = str(COLUMNS)
    command = [sys.executable, "-m", "frontdesk.cli", *words]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    ):
        os.close(theirs)
        printed = b""
        while piece := read(ours):
            printed += piece
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def read(descriptor: int) -> bytes:
    """Read from a terminal, until nobody has its other side any more."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def drawn(typed: list[tuple[str, str]]) -> str:
    """Draw what was typed and printed, with no font and nothing else from another host."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        for command, printed in typed:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            console.print(Text.from_ansi(steady(printed)))
        svg = console.export_svg(title="frontdesk", theme=DIMMED_MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace").replace(
        "<!-- Generated with Rich https://www.textualize.io -->", ""
    )


def steady(printed: str) -> str:
    """Return what was printed with times that say nothing."""
    return re.sub(r"\d\d:\d\d:\d\d", "09:30:00", printed)


def said_at(typed: list[tuple[str, str]]) -> str:
    """Return what was typed and printed, as text without numbers."""
    plain = "\n".join(f"$ {command}\n{Text.from_ansi(out).plain}" for command, out in typed)
    return without_numbers(plain)


# -- all of them -----------------------------------------------------------------------------------


def main() -> None:
    """Take the pictures anew whose text is another one."""
    from browser.chromium import chromium

    if not any(map(shutil.which, ("chromium", "chromium-browser"))):
        print("no Chromium here: the pictures of the real thing stay as they are")  # noqa: T201
        return
    with scene() as gateway, chromium() as browser:
        with dashboard(gateway, browser) as page:
            if is_new("dashboard", text_of(page)):
                page.screenshot(path=IMAGES / "dashboard.png")
        typed = at_a_terminal(gateway)
        if is_new("terminal", said_at(typed)):
            (IMAGES / "terminal.svg").write_text(drawn(typed), encoding="utf-8")


def is_new(name: str, text: str) -> bool:
    """Say whether a picture shows something else now, and keep what."""
    place = SHOWN / f"{name}.txt"
    if place.exists() and place.read_text(encoding="utf-8") == text:
        return False
    place.write_text(text, encoding="utf-8")
    return True


if __name__ == "__main__":
    main()
