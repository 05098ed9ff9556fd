"""Records as bytes: what is encoded is decoded as it was, and nothing else is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.cluster import errors
from frontdesk.cluster.messages import LoggedRow, LoggedRows, PageRow, Raised, encode, rows_of
from frontdesk.cluster.records import IndexEntry, LoggedChange, LogPage, NewEntry
from frontdesk.errors import (
    InvalidArgument,
    SessionAlreadyExists,
    SessionLimitExceeded,
)
from frontdesk.records import Created, Ended, ExitKind, ExitReason, Metadata, Updated

PAGES = msgspec.msgpack.Decoder(PageRow)
ERRORS = msgspec.msgpack.Decoder(Raised)

texts = st.text(max_size=20)
maybe = st.none() | texts
numbers = st.integers(0, 2**53 - 1)
entries = st.builds(
    IndexEntry,
    st.builds(
        NewEntry,
        session_id=texts,
        incarnation=texts,
        token=texts,
        tenant_id=texts,
        api_key=maybe,
        created_at=numbers,
        blueprint=maybe,
        model=maybe,
        pid=numbers,
        minted=st.booleans(),
    ),
    fence=numbers,
    version=numbers,
)
reasons = (
    st.sampled_from(ExitKind).map(ExitReason.of)
    | st.builds(lambda text: ExitReason.crashed(ValueError(text)), texts)
    | st.integers(1, 64).map(ExitReason.signalled)
    | st.integers(1, 255).map(ExitReason.exited)
)


def logged(change, entry):
    return LoggedChange(change, entry.entry.incarnation, entry.entry.token)


@given(entries, numbers, reasons, numbers)
def test_a_change_is_the_same_after_its_journey(entry, revision, reason, ended_at):
    rows = [
        LoggedRow.of("created", revision, entry),
        LoggedRow.of("updated", revision, entry),
        LoggedRow.of("ended", revision, entry, reason, ended_at),
    ]
    changes = (
        Created(revision, entry.metadata),
        Updated(revision, entry.metadata),
        Ended(revision, entry.metadata, reason, ended_at),
    )
    page = PAGES.decode(encode(PageRow(5, 7, rows))).page
    told = tuple(logged(change, entry) for change in changes)
    assert page == LogPage(5, 7, told)
    assert (tuple(page.changes), page.changes[1:], page.changes[-1]) == (told, told[1:], told[-1])


@given(entries, numbers, reasons, numbers)
def test_changes_have_the_same_rows_however_they_came(entry, revision, reason, ended_at):
    told = (
        logged(Created(revision, entry.metadata), entry),
        logged(Updated(revision, entry.metadata), entry),
        logged(Ended(revision, entry.metadata, reason, ended_at), entry),
    )
    rows = rows_of(told)
    assert LoggedRows(rows) == told
    assert LoggedRows(rows) != told[:2]
    assert rows_of(LoggedRows(rows)) is rows


def test_a_gap_is_one_after_its_journey():
    assert PAGES.decode(encode(PageRow(5, 7, gap=True))).page == LogPage(5, 7, gap=True)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xc1",
        encode([1, 2, [["vanished", *range(13)]], False]),
        encode([1, 2, [["created", 1, 2, 3]], False]),
        encode({"era": 1, "head": 2}),
        encode([1.5, 2]),
    ],
)
def test_what_is_no_page_is_refused(sent):
    with pytest.raises(msgspec.MsgspecError):
        PAGES.decode(sent)


@pytest.mark.parametrize(
    "error",
    [
        errors.EngineUnavailable("it is full", retry_after_s=2.5),
        errors.LeaseLost("a" * 32),
        errors.OwnerSuspect("s", retry_after_s=3.0),
        errors.Recovering(retry_after_s=1.0),
        errors.SchemaRefused(3, known=(1, 2)),
        InvalidArgument("limit", expected="1 to 2", got="3"),
        SessionAlreadyExists("s", holder=None),
        SessionAlreadyExists("s", holder=Metadata("s", 1, "k", "t", 2, None, None, 3)),
        SessionLimitExceeded(scope="per_tenant", limit=5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_has_its_facts_after_its_journey(error):
    raised = ERRORS.decode(encode(Raised.of(error))).error
    assert type(raised) is type(error)
    assert (str(raised), vars(raised)) == (str(error), vars(error))


def test_an_error_that_no_verb_raises_is_that_the_engine_cannot():
    raised = ERRORS.decode(encode(["SystemExit", {}])).error
    assert isinstance(raised, errors.EngineUnavailable)
    assert "'SystemExit'" in str(raised)
