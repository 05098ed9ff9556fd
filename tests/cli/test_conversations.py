"""`frontdesk conversations`: what is stored, looked at, copied, erased, checked and salvaged."""

import json
import re
import shutil
import sqlite3
from contextlib import closing

import pytest

from cli.commanding import run
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked
from gateway.running import ACME, UMBRELLA, RunningGateway, create, turn_of

pytestmark = pytest.mark.slow

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A state directory with conversations of two tenants, whose gateway has ended."""
    state = tmp_path_factory.mktemp("filled") / "state"
    with (
        RunningGateway(state, conversations={"store": "sqlite"}) as gateway,
        gateway.client() as acme,
        gateway.client(UMBRELLA) as other,
    ):
        for client, name in ((acme, "one"), (acme, "two"), (other, "one")):
            create(client, name)
            for text in ("hello you", "x" * 20_000):
                turn_of(client, name, text)
    return state


@pytest.fixture
def state(filled, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(filled, tmp_path / "state")


def conversations(state, *arguments, **options):
    return run("conversations", *arguments, "--state-dir", str(state), **options)


def listed(state, *arguments):
    ran = conversations(state, "ls", "--json", *arguments)
    assert ran.code == 0, ran.err
    return [(each["tenantId"], each["sessionId"]) for each in
            json.loads(ran.out)["conversations"]]  # fmt: skip


def test_what_is_stored_is_listed_and_shown(state):
    ran = conversations(state, "ls", "--tenant", "acme")
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert [line[:6] for line in lines] == [
        ["acme", name, "dormant", "parrot", "test", ""] for name in ("one", "two")
    ]
    assert all(MOMENT.fullmatch(line[6]) for line in lines)
    assert listed(state) == [("acme", "one"), ("acme", "two"), ("umbrella", "one")]
    shown = json.loads(conversations(state, "show", "acme/one", "--json").out)
    assert shown["messages"] == 4
    assert shown["waiting"] == 0
    assert "hello" not in json.dumps(shown)
    missing = conversations(state, "show", "acme/three")
    assert missing.code == 3
    assert "no conversation acme/three is stored" in missing.err
    assert conversations(state, "show", "one").code == 2


def test_what_is_exported_is_imported_for_another_tenant_and_goes_on(state, tmp_path):
    exported = conversations(state, "export", "acme/one")
    file = tmp_path / "one.jsonl"
    file.write_text(exported.out, encoding="utf-8")
    ran = conversations(state, "import", str(file), "--tenant", "umbrella", "--session-id", "new")
    assert (ran.code, ran.out) == (0, "imported\tumbrella/new\n")
    again = conversations(state, "import", "-", "--tenant", "umbrella", said=exported.out)
    assert again.code == 2
    assert "already" in again.err
    assert "--session-id" in again.err
    cut = "".join(exported.out.splitlines(keepends=True)[:-1])
    refused = conversations(state, "import", "-", "--tenant", "new", said=cut)
    assert refused.code == 2
    assert "cut off" in refused.err
    copied = conversations(state, "export", "umbrella/new").out.splitlines()
    assert copied[1:] == exported.out.splitlines()[1:]
    with (
        RunningGateway(state, conversations={"store": "sqlite"}) as gateway,
        gateway.client(UMBRELLA) as client,
    ):
        turn_of(client, "new", "more")
        assert len(client.get("/v1/sessions/new/messages").json()["messages"]) == 6
        beside = conversations(state, "ls", "--tenant", "umbrella")
        assert beside.code == 0
        assert len(beside.out.splitlines()) == 2


def test_a_conversation_and_a_tenant_are_erased_and_nobody_is_asked_twice(state):
    asked = conversations(state, "erase", "acme/one")
    assert asked.code == 2
    assert "--yes" in asked.err
    assert "--dry-run" not in asked.err
    ran = conversations(state, "erase", "acme/one", "--yes")
    assert (ran.code, ran.out) == (0, "erased\tacme/one\n")
    assert conversations(state, "erase", "acme/one", "--yes").code == 3
    whole = conversations(state, "erase-tenant", "umbrella", "--yes", "--json")
    assert json.loads(whole.out) == {"erased": "umbrella", "conversations": 1}
    assert listed(state) == [("acme", "two")]


def test_beside_a_gateway_nothing_is_changed(state):
    with locked(StateDir.existing(state)):
        for changed in (("erase", "acme/one", "--yes"), ("erase-tenant", "acme", "--yes")):
            ran = conversations(state, *changed)
            assert ran.code == 2
            assert "another gateway that runs" in ran.err
            assert "end it first, or ask it" in ran.err
            assert "--state-dir" not in ran.err
        assert len(listed(state)) == 3


def test_what_is_stored_as_live_is_so_only_where_a_gateway_runs(state):
    with closing(sqlite3.connect(state / "conversations.sqlite3")) as file, file:
        # As a gateway leaves it that is killed.
        file.execute("UPDATE conversation SET state = 'live' WHERE session_id = 'one'")
    file.close()

    def shown():
        (first, *_) = json.loads(conversations(state, "ls", "--json").out)["conversations"]
        one = json.loads(conversations(state, "show", "acme/one", "--json").out)
        assert first["state"] == one["state"]
        return one["state"]

    assert shown() == "dormant"
    with locked(StateDir.existing(state)):
        assert shown() == "live"


@pytest.mark.parametrize(
    ("store", "advice"), [("postgresql://desk@127.0.0.1/x", "pg_dump"), ("memory", "end with it")]
)
def test_of_what_is_not_stored_in_a_directory_it_is_said_what_to_ask(tmp_path, store, advice):
    (tmp_path / "frontdesk.toml").write_text(f'[conversations]\nstore = "{store}"\n')
    ran = run("conversations", "ls", cwd=tmp_path)
    assert ran.code == 2
    assert advice in ran.err


def test_after_a_restart_all_sessions_are_listed_by_all_and_shown_to_be_dormant(state):
    with RunningGateway(state, conversations={"store": "sqlite"}) as gateway:
        asked = {"url": gateway.url, "key": ACME}

        def sessions(*arguments):
            ran = run("sessions", *arguments, **asked)
            assert ran.code == 0, ran.err
            return [line.split("\t") for line in ran.out.splitlines()]

        assert sessions("ls", "--state", "dormant") == []
        for arguments in ((), ("--state", "dormant"), ("--blueprint", "parrot")):
            rows = sessions("ls", "--all", "--sort", "-created", *arguments)
            assert [(row[0], row[3]) for row in rows] == [("two", "false"), ("one", "false")]
        assert sessions("ls", "--all", "--state", "working") == []
        shown = {row[0]: row[1] for row in sessions("show", "one")}
        assert (shown["live"], shown["stored"]) == ("false", "true")
        assert re.fullmatch(r"\d+\.\d{1,9}", shown["cost usd"])
        assert [row[0] for row in sessions("ls", "--state", "dormant")] == ["one"]
        told = json.loads(run("sessions", "ls", "--all", "--limit", "1", "--json", **asked).out)
        assert ([each["sessionId"] for each in told["sessions"]], told["partial"]) == (
            ["one"], False
        )  # fmt: skip
        refused = run("sessions", "ls", "--all", "--model", "test", **asked)
        assert (refused.code, "--all" in refused.err) == (2, True)


def test_where_a_development_run_has_its_state_that_is_named(tmp_path):
    (tmp_path / ".frontdesk-dev").mkdir()
    ran = run("conversations", "ls", cwd=tmp_path)
    assert ran.code == 2
    assert "--state-dir .frontdesk-dev" in ran.err


def test_a_whole_file_is_checked_and_copied_whole(state, tmp_path):
    checked = conversations(state, "check")
    assert (checked.code, checked.out) == (0, "")
    assert "3 conversations were checked, 0 problems were found" in checked.err
    copy = tmp_path / "copy.sqlite3"
    ran = conversations(state, "recover", str(copy))
    assert ran.code == 0, ran.err
    assert "conversation\t3\t0" in ran.out
    before = listed(state)
    shutil.rmtree(state / "conversations.sqlite3-wal", ignore_errors=True)
    copy.replace(state / "conversations.sqlite3")
    assert listed(state) == before
    assert conversations(state, "check").code == 0
    there = conversations(state, "recover", str(state / "conversations.sqlite3"))
    assert there.code == 2


def test_of_a_damaged_file_a_copy_has_what_can_be_read_and_what_was_lost_is_counted(
    state, tmp_path
):
    file = state / "conversations.sqlite3"
    exported = conversations(state, "export", "acme/two").out
    content = bytearray(file.read_bytes())
    pages = len(content) // 4096
    # Half of the pages behind the first ones, which say what tables there are.
    for page in range(pages * 2 // 3, pages):
        content[page * 4096 : (page + 1) * 4096] = b"\xa5" * 4096
    file.write_bytes(content)
    before = file.read_bytes()
    checked = conversations(state, "check")
    assert checked.code == 1, checked.err
    assert "the file: " in checked.out
    copy = tmp_path / "copy.sqlite3"
    ran = conversations(state, "recover", str(copy), "--json")
    assert ran.code == 1, ran.err
    tables = json.loads(ran.out)["tables"]
    assert sum(each["lost"] for each in tables) > 0
    assert sum(each["rows"] for each in tables) > 0
    assert file.read_bytes() == before
    copy.replace(file)
    assert conversations(state, "ls").code == 0
    assert exported


DAMAGED = ("conversation", "turn", "epoch", "message", "journal", "conversation_by_id")


@pytest.mark.parametrize("name", DAMAGED)
def test_of_a_damaged_page_it_is_said_what_cannot_be_read_and_no_list_shrinks(state, name):
    file = state / "conversations.sqlite3"
    with closing(sqlite3.connect(file)) as opened:
        found = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = opened.execute(found, (name,)).fetchone()
    with file.open("r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\xa5" * 4096)
    checked = conversations(state, "check", "--json")
    assert checked.code == 1, checked.err
    assert "the file: " in json.loads(checked.out)["problems"][0]
    for command in (
        ("ls",),
        ("show", "acme/one"),
        ("erase", "acme/one", "--yes"),
        ("erase-tenant", "acme", "--yes"),
    ):
        ran = conversations(state, *command)
        looks = command[0] in {"ls", "show"}
        assert ran.code == 2 or (looks and ran.code == 0), command
        if ran.code:
            assert ran.out == ""
            assert ran.err.startswith("frontdesk: ")
            assert "recover` copies" in ran.err
        elif command == ("ls",):
            assert len(ran.out.splitlines()) == 3


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "state").mkdir()
    ran = conversations(tmp_path / "state", "ls")
    assert ran.code in (2, 5)
    assert ran.err.startswith("frontdesk: ")
