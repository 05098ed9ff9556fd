"""The same error again and again becomes a count; nothing that has to be told does."""

import io
import logging

import pytest

from frontdesk.gateway.log_events import LogEvent, log_event, log_operator_action
from frontdesk.gateway.log_writer import LogWriter
from frontdesk.gateway.logs import configure_logs
from frontdesk.gateway.repeated_errors import (
    MAX_DIFFERENT,
    MINUTE_S,
    MOST,
    OTHERS,
    RepeatedErrors,
)
from frontdesk.gateway.settings import LogSettings
from support.waiting import eventually

logger = logging.getLogger("frontdesk.test_repeated")


class Records(logging.Handler):
    """Keeps what passes the filter, with a clock that is moved by hand."""

    def __init__(self, *, later=True):
        super().__init__()
        self.now_s, self.kept, self.called = 1000.0, [], []
        asked = (lambda delay_s, call: self.called.append((delay_s, call))) if later else None
        self.repeated = RepeatedErrors(asked, now=lambda: self.now_s)
        self.addFilter(self.repeated)

    def emit(self, record):
        self.kept.append(record)

    def counts(self):
        found = [each for each in self.kept if getattr(each, "event", "") == "repeated"]
        return [(each.error, each.count) for each in found]


@pytest.fixture
def records():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:], _ = [made := Records()], root.setLevel("INFO")
    yield made
    root.handlers[:], _ = before[0], root.setLevel(before[1])


def test_of_the_same_error_ten_are_told_in_a_minute_and_then_how_many_more(records):
    for number in range(25):
        logger.error("session %d fell over", number)
    assert len(records.kept) == MOST
    ((delay_s, end_of_minute),) = records.called
    assert delay_s == MINUTE_S
    end_of_minute()
    assert records.counts() == [("session %d fell over", 15)]
    # And the next minute begins anew.
    logger.error("session %d fell over", 26)
    assert len(records.kept) == MOST + 2
    records.called[-1][1]()
    assert len(records.counts()) == 1


def test_errors_that_differ_have_their_lines(records):
    for _ in range(MOST):
        logger.error("one")
        logger.warning("another")
        logging.getLogger("frontdesk.elsewhere").error("one")
        for error in (ValueError("x"), KeyError("x")):
            logger.error("with one", exc_info=error)
        logger.error("%s", "said in full")
        logger.error("%s", "said otherwise")
    assert len(records.kept) == 7 * MOST


def test_without_a_clock_of_its_own_a_minute_ends_with_the_next_error(records):
    root = logging.getLogger()
    root.handlers[:] = [quiet := Records(later=False)]
    for _ in range(MOST + 3):
        logger.error("one")
    quiet.now_s += MINUTE_S
    logger.error("another")
    assert quiet.counts() == [("one", 3)]
    assert quiet.kept[-1].getMessage() == "another"


def test_what_each_has_its_line_is_never_a_count_and_nor_is_what_is_no_error(records):
    for _ in range(50):
        log_event(LogEvent.SESSION_ENDED, level=logging.WARNING, session_id="s")
        log_operator_action(key_id="k", action="stop", target="t", result="r")
        logger.info("all is well")
    assert len(records.kept) == 150


def test_the_table_of_errors_is_bounded_and_the_rest_is_counted_together(records):
    for number in range(MAX_DIFFERENT + 50):
        logger.error(f"error {number}")
    assert len(records.kept) == MAX_DIFFERENT + MOST
    records.called[0][1]()
    assert records.counts() == [(OTHERS, 50 - MOST)]


def test_the_counts_are_told_at_the_end_of_the_process_too():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    writer = LogWriter(stream)
    try:
        configure_logs(LogSettings(format="json"), to=writer)
        for _ in range(MOST + 7):
            logger.error("the same")
        writer.close(timeout_s=30)
    finally:
        root.handlers[:], _ = before[0], root.setLevel(before[1])
    assert '"event":"repeated"' in stream.getvalue()
    assert '"count":7' in stream.getvalue()


def test_what_the_writer_is_to_call_later_is_called_when_it_is_due_and_once():
    writer, called = LogWriter(io.StringIO()), []
    try:
        writer.later(3600, lambda: called.append("never"))
        writer.later(0.001, lambda: called.append("due"))
        eventually(lambda: called)
    finally:
        writer.close(timeout_s=30)
    assert called == ["due"]
