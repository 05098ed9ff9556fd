"""What a start finds in the state directory that is not as it was left: said, never made up for."""

import pytest

from frontdesk.gateway.conversation_settings import ConversationSettings
from frontdesk.gateway.conversation_storage import sqlite_conversations
from frontdesk.gateway.state_dir import StateDir
from frontdesk.persistence.errors import StorageRefused
from gateway.command import serving
from gateway.running import RunningGateway, create, turn_of
from support.persistence import opened
from support.small_disks import fill, small_disk

STORED = ConversationSettings(store="sqlite", reserve_mb=0)


@pytest.fixture
def state(tmp_path):
    return StateDir.make(tmp_path / "state")


def begin(state):
    """Store a conversation, and leave."""
    store = sqlite_conversations(STORED, state, owner="")
    store.apply([opened(7)])
    store.close()


@pytest.mark.parametrize("emptied", [True, False])
def test_a_file_that_is_gone_or_empty_is_no_fresh_start_where_its_keys_are(state, emptied):
    begin(state)
    for path in state.path.glob("conversations.sqlite3*"):
        path.unlink()
    if emptied:
        state.conversations.touch()
    with pytest.raises(StorageRefused, match=r"empty or gone.*conversation-keys"):
        sqlite_conversations(STORED, state, owner="")
    state.conversation_keys.rename(state.path / "away")
    begin(state)


@pytest.mark.chaos
def test_a_start_on_a_full_disk_frees_what_is_in_reserve_and_reads(tmp_path):
    with small_disk(tmp_path / "small", mib=8) as place:
        arguments = ("--state-dir", str(place / "state"))
        settings = {"FRONTDESK_CONVERSATIONS__RESERVE_MB": "2"}
        with serving(tmp_path, *arguments, **settings) as one, one.client() as client:
            create(client, "s-1")
            turn_of(client, "s-1", "hello")
            one.process.kill()
            one.wait()
        filler = fill(place)
        with serving(tmp_path, *arguments, **settings) as two, two.client() as client:
            assert "the reserve there is freed" in two.log
            messages = client.get("/v1/sessions/s-1/messages").json()["messages"]
            assert messages[0]["content"] == "hello"
            filler.unlink()
            assert turn_of(client, "s-1", "again")[-1][1] == "agent_end"


@pytest.mark.slow
def test_a_session_whose_key_is_lost_says_so_everywhere_and_can_be_deleted(tmp_path):
    settings = {"store": "sqlite", "encrypt": True}
    with RunningGateway(tmp_path, conversations=settings) as running, running.client() as client:
        create(client, "s-1")
        turn_of(client, "s-1", "hello")
    for key in (tmp_path / "conversation-keys").iterdir():
        key.unlink()
    with RunningGateway(tmp_path, conversations=settings) as running, running.client() as client:
        path = "/v1/sessions/s-1"
        assert "key" in client.get(path).json()["blocked"]
        assert "key" in client.get("/v1/sessions").json()["sessions"][0]["blocked"]
        for verb, rest, body in (
            ("GET", "/messages", None),
            ("GET", "/export", None),
            ("GET", "/events?since=0", None),
            ("POST", "/prompt", {"text": "more"}),
            ("POST", "/steer", {"text": "more"}),
            ("POST", "/resume", None),
        ):
            answer = client.request(verb, path + rest, json=body)
            assert (answer.status_code, answer.json()["error"]) == (409, "not_resumable"), rest
        assert client.delete(path).status_code == 200
        assert client.get(path).status_code == 404
