"""The events of the log: the list is whole, and what lines of it say."""

from frontdesk.gateway.log_events import (
    DESCRIPTIONS,
    LogEvent,
    log_operator_action,
)


def test_every_event_of_the_log_is_described():
    assert set(DESCRIPTIONS) == set(LogEvent)


def test_what_an_operator_did_is_one_line_with_key_target_and_result(caplog):
    caplog.set_level("INFO", logger="frontdesk.events")
    log_operator_action(key_id="ops", action="stop", target="acme/s\n1", result="stopping")
    (record,) = caplog.records
    assert (record.event, record.key_id, record.target) == ("operator_action", "ops", "acme/s\n1")
    assert record.getMessage() == (
        r"operator_action key_id='ops' action='stop' target='acme/s\n1' result='stopping'"
    )
