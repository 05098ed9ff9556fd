"""What the logs show: where something failed and what it was, and nothing that is secret."""

import asyncio
import io
import json
import logging
import time

import pytest

from frontdesk.agents import Turn, blueprint
from frontdesk.agents.blueprints import Blueprints
from frontdesk.gateway.access_log import AccessLog
from frontdesk.gateway.app import create_app
from frontdesk.gateway.logs import configure_logs
from frontdesk.gateway.settings import LogSettings
from frontdesk.keeper.stderr import printable
from gateway.asgi import ask
from gateway.running import ACME, RunningGateway, create, turn_of
from support.waiting import eventually

SYSTEM_PROMPT, PROMPT = "the system prompt: be discreet", "the prompt: my pin is 4711"
PLANTED = "sk-planted-in-a-local-variable"
FORMATS = ("console", "json")


@blueprint("leaky")
async def leaky(turn: Turn):
    """Fail while it holds secrets in local variables."""
    secret = {"key": PLANTED, "text": turn.text, "again": [turn.session.system_prompt]}
    yield "I will "
    raise RuntimeError(f"it fails with {len(secret)} secrets")


@pytest.fixture
def logged(request):
    """Everything that the logs of this format write."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    written = io.StringIO()
    written.writer = configure_logs(LogSettings(format=request.param, level="debug"), to=written)
    yield written
    root.handlers[:], _ = before[0], root.setLevel(before[1])


def failing(*, depth=0, error=None):
    if depth:
        failing(depth=depth - 1, error=error)
    local = PLANTED
    raise error or RuntimeError(f"something of {len(local)} characters")


@pytest.mark.parametrize("logged", FORMATS, indirect=True)
def test_neither_a_failed_turn_nor_a_500_shows_a_value_of_a_local_variable(tmp_path, logged):
    agents = Blueprints([leaky])
    with RunningGateway(tmp_path, agents=agents) as gateway, gateway.client() as client:
        create(client, "s", blueprint="leaky", systemPrompt=SYSTEM_PROMPT)
        assert turn_of(client, "s", PROMPT)[-1][1] == "agent_abort"

        def broken(_):
            secret = PLANTED
            raise RuntimeError(f"a fault of ours, {len(secret)}")

        app = create_app(gateway.gateway, log=AccessLog(logged.writer))
        gateway.gateway.sessions_of = broken
        failed = gateway.call(
            lambda: ask(app, f"/v1/usage?api_key={ACME}", headers=[(b"x-api-key", ACME.encode())])
        )
        assert failed.status == 500
        del gateway.gateway.sessions_of
    text = eventually(lambda: "a fault of ours" in logged.getvalue() and logged.getvalue())
    assert "it fails with 3 secrets" in text
    assert text.count("Traceback") >= 2
    for secret in (ACME, SYSTEM_PROMPT, PROMPT, PLANTED, PLANTED.encode().hex()):
        assert secret not in text
    assert "4711" not in text


@pytest.mark.parametrize("logged", FORMATS, indirect=True)
@pytest.mark.parametrize("kind", ["deep", "chained", "grouped", "long", "itself"])
def test_a_traceback_is_bounded_and_costs_no_time(logged, kind):
    try:
        failing(depth=800 if kind == "deep" else 0)
    except RuntimeError as caught:
        error = caught
    if kind == "chained":
        for _ in range(300):
            following = RuntimeError("chained")
            following.__cause__ = error
            error = following
    elif kind == "grouped":
        for _ in range(2):
            error = ExceptionGroup("group", [error] * 30)
    elif kind == "long":
        error = RuntimeError("x" * 5_000_000)
    elif kind == "itself":
        error.__cause__ = RuntimeError("round")
        error.__cause__.__cause__ = error
    begin = time.process_time()
    logging.getLogger("frontdesk.test").error("it failed", exc_info=error)
    assert time.process_time() - begin < 0.5
    assert len(logged.getvalue()) < 40_000
    assert PLANTED not in logged.getvalue()


@pytest.mark.parametrize("logged", FORMATS, indirect=True)
@pytest.mark.parametrize(
    "nasty",
    ["\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\x00\x08\x7f", "\u202e", "\x85"],
)
def test_no_control_character_reaches_the_log_whoever_wrote_it(logged, nasty):
    logger = logging.getLogger("frontdesk.test")
    logger.info("agent: %s", nasty, extra={"session": nasty})
    try:
        raise RuntimeError(nasty)
    except RuntimeError:
        logger.exception("it failed")
    text = logged.getvalue()
    lines = [line for line in text.split("\n") if line]
    assert all(line.isprintable() for line in lines), text
    if text.startswith("{"):
        shown = [json.loads(line) for line in lines]
        assert all(part.isprintable() for line in shown for part in str(line).split("\n"))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain ä 漢 😀", "plain ä 漢 😀"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("a\tb", "a\tb"),
        ("50%\r100%", "50%\\r100%"),
        ("\x1b", "\\x1b"),
        ("\x07\x00\x9f", "\\x07\\x00"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("\x1bc reset", " reset"),
    ],
)
def test_a_line_is_shown_as_text(line, shown):
    assert printable(line) == shown


def test_the_use_of_an_operators_key_is_one_line_whatever_its_path(gateway, caplog):
    caplog.set_level("INFO", logger="frontdesk.auth")
    with gateway.client("op-secret") as operator:
        operator.get("/ops/%0Aforged line%1b[2J")
    uses = [each.getMessage() for each in caplog.records if each.name == "frontdesk.auth"]
    assert uses
    assert all(use.isprintable() for use in uses)


def test_what_an_agent_writes_on_standard_error_is_text_in_the_log(caplog):
    import os

    from frontdesk.keeper.stderr import StderrLog

    async def scenario():
        reading, writing = os.pipe()
        log = StderrLog(reading, label="acme/s")
        os.write(writing, b"\x1b[2J\x1b[31mhello\x1b[0m\rworld\x00\n" + b"\x1b" * 3000 + b"\n")
        os.close(writing)
        log.close()

    caplog.set_level("INFO", logger="frontdesk.agents.stderr")
    asyncio.run(scenario())
    first, second = [record.getMessage() for record in caplog.records]
    assert first == "acme/s: hello\\rworld\\x00"
    assert second.isprintable()
    assert len(second) < 2100
