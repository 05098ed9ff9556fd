"""Nobody waits for whoever reads the log: what is not read is bounded, counted and told."""

import io
import logging
import os
import re
import sys
import threading
import warnings
from contextlib import ExitStack

import pytest

from frontdesk.gateway.log_writer import MAX_WAITING_CHARACTERS, LogWriter
from frontdesk.gateway.logs import configure_logs, lines_dropped, log_stray_errors
from frontdesk.gateway.settings import LogSettings
from gateway.command import CONFIG, serving
from gateway.running import create
from support.waiting import eventually

LINE = f"{'x' * 999}\n"
PATIENCE_S = 30


@pytest.fixture
def writing():
    """Make writers, which end with the test."""
    with ExitStack() as ending:

        def make(stream):
            writer = LogWriter(stream)
            ending.callback(writer.close, timeout_s=PATIENCE_S)
            return writer

        yield make


class Stalled(io.StringIO):
    """A stream that takes nothing until it is read."""

    def __init__(self):
        super().__init__()
        self.entered, self.read = threading.Event(), threading.Event()

    def write(self, text):
        self.entered.set()
        assert self.read.wait(PATIENCE_S)
        return super().write(text)


@pytest.fixture
def rooted():
    """The handlers of the root logger, put back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], _ = before[0], root.setLevel(before[1])


def test_lines_are_written_in_their_order_and_all_of_them(writing):
    written = io.StringIO()
    writer = writing(written)
    lines = [f"{n}\n" for n in range(5000)]
    for line in lines:
        writer.write(line)
    assert writer.drain(timeout_s=PATIENCE_S)
    assert written.getvalue() == "".join(lines)
    assert writer.dropped == 0


def test_lines_that_nobody_reads_are_bounded_in_memory_and_the_rest_is_counted(writing):
    stream = Stalled()
    writer = writing(stream)
    writer.write(LINE)
    assert stream.entered.wait(PATIENCE_S)
    for _ in range(3000):
        writer.write(LINE)
    assert not writer.drain(timeout_s=0)
    kept = MAX_WAITING_CHARACTERS // len(LINE)
    assert writer.dropped == 3001 - kept
    stream.read.set()
    assert writer.drain(timeout_s=PATIENCE_S)
    assert stream.getvalue() == LINE * kept


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_says_how_many_lines_were_dropped_once_it_is_read_again(rooted, writing, form):
    stream = Stalled()
    writer = writing(stream)
    configure_logs(LogSettings(format=form), to=writer)
    for number in range(3000):
        logging.getLogger("frontdesk.x").info("%d %s", number, "x" * 900)
    dropped = lines_dropped()
    assert dropped > 1000
    stream.read.set()
    told = eventually(lambda: re.search(r"(\d+) lines of the log were dropped", stream.getvalue()))
    assert int(told[1]) == dropped
    logging.getLogger("frontdesk.x").warning("and on it goes")
    assert writer.drain(timeout_s=PATIENCE_S)
    assert "and on it goes" in stream.getvalue()
    assert stream.getvalue().count("were dropped") == 1


@pytest.mark.parametrize("error", [BrokenPipeError, OSError(28, "full"), ValueError("closed")])
def test_a_log_whose_reader_has_gone_costs_its_lines_and_nothing_else(rooted, writing, error):
    class Gone(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            raise error

    stream = Gone()
    writer = writing(stream)
    configure_logs(LogSettings(format="json"), to=writer)
    for _ in range(3):
        logging.getLogger("frontdesk.x").warning("a line")
        assert writer.drain(timeout_s=PATIENCE_S)
    assert lines_dropped() == 3
    assert stream.writes == 3  # what is lost is not itself a line that is lost, and so on


def test_many_threads_log_without_losing_a_line(writing):
    written = io.StringIO()
    writer = writing(written)
    threads = [
        threading.Thread(target=lambda n=n: [writer.write(f"{n} {i}\n") for i in range(500)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert writer.drain(timeout_s=PATIENCE_S)
    assert sorted(written.getvalue().split("\n")[:-1]) == sorted(
        f"{n} {i}" for n in range(4) for i in range(500)
    )


class Falls:
    """Fail where nobody can be told."""

    def __del__(self):
        raise RuntimeError("in a finalizer")


def test_what_python_writes_to_standard_error_itself_goes_the_same_way(
    rooted, writing, monkeypatch
):
    for module, hook in ((sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    written = io.StringIO()
    writer = writing(written)
    configure_logs(LogSettings(format="json"), to=writer)
    try:
        log_stray_errors()
        Falls()
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join(PATIENCE_S)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("an old name", DeprecationWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
    assert writer.drain(timeout_s=PATIENCE_S)
    for text in ("in a finalizer", "ZeroDivisionError", "an old name"):
        assert text in written.getvalue()


@pytest.mark.timeout(120)
def test_a_gateway_whose_log_nobody_reads_answers_and_says_afterwards_what_was_dropped(tmp_path):
    read_end, write_end = os.pipe()
    config = f"{CONFIG}[limits]\nrequests_per_minute = 100000\n"
    with (
        open(read_end, encoding="utf-8") as log,
        serving(tmp_path, config=config, wait=False, errors_to=write_end) as server,
    ):
        os.close(write_end)
        lines = iter(log.readline, "")
        server.url = next(filter(None, map(server.url_in, lines)))
        with server.client() as client:
            create(client, "s")
            for _ in range(1500):  # more than a pipe and the writer hold
                assert client.get(f"/v1/sessions/{'n' * 400}").status_code in (400, 404)
            assert client.get("/v1/sessions/s").json()["sessionId"] == "s"
        assert any("lines of the log were dropped" in line for line in log)
