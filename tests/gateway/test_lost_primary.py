"""A gateway whose database fails over to a replica that lacks something: it ends, and recovers."""

import signal

import httpx
import pytest

from gateway.command import CONFIG, serving
from gateway.running import create, events, until
from gateway.test_workers_storage import RECALLING, prompt
from support.postgres import PASSWORD, USER, PostgresServer, PostgresStandby

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(240)]

WITHIN_S = 60
STORED = """
[conversations]
store = "postgresql://{user}@127.0.0.1:{primary},127.0.0.1:{standby}/postgres"
password_file = "{password}"
"""


def config_of(directory, primary, standby):
    password = directory / "password"
    password.write_text(PASSWORD)
    stored = STORED.format(user=USER, primary=primary.port, standby=standby.port, password=password)
    return CONFIG + RECALLING + stored


def test_after_a_failover_that_lost_something_clients_are_told_and_no_id_comes_twice(tmp_path):
    with PostgresServer() as primary, PostgresStandby(primary) as standby:
        config = config_of(tmp_path, primary, standby)
        with serving(tmp_path / "desk", config=config) as server, server.client() as client:
            create(client, "mine", blueprint="recalling")
            kept = ended_turn(client, "one", since="0")
            standby.catch_up()
            standby.stop_following()
            lost = ended_turn(client, "two", since=kept[-1][0])
            primary.kill()
            standby.promote()
            with pytest.raises(httpx.HTTPError):
                client.post("/v1/sessions/mine/prompt", json={"text": "three"})
            assert server.wait(WITHIN_S) == -signal.SIGKILL
            assert "the database has gone back in time" in server.log
            assert PASSWORD not in server.log
        with serving(tmp_path / "desk", config=config) as server, server.client() as client:
            # What is left of it the client has had: it goes on behind that.
            assert resumed_after(client, lost[-1][0])[0] == "gap"
            anew = ended_turn(client, "three", since=kept[-1][0])
            assert resumed_after(client, lost[-1][0]) == ("gap", anew[0][0])
            said = "".join(data["delta"] for _, name, data in anew if name == "message_delta")
            assert ("user: one" in said, "user: two" in said) == (True, False)
            seen = {each[0] for each in (*kept, *lost)}
            assert not seen & {each[0] for each in anew}
            assert [index_of(each) for each in (*kept, *anew)] == [
                *range(1, len(kept) + len(anew) + 1)
            ]
            assert server.terminate() == 0


def ended_turn(client, text, *, since):
    """Have a turn; return the events after one, up to its end."""
    prompt(client, "mine", text)
    with events(client, "mine", since=since) as stream:
        return until(stream, "agent_end")


def resumed_after(client, event_id):
    """Return the error that a stream begins with, and where it goes on."""
    with events(client, "mine", headers={"Last-Event-ID": event_id}) as stream:
        _, name, data = next(iter(stream))
        assert name == "error"
        return data["reason"], data["resumesAt"]


def index_of(event):
    return int(event[0].rpartition("-")[2])
