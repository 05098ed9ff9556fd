"""The gateway's state is out of its agents' reach, and they lose nothing else by it."""

import ast
import asyncio
import json
import logging
import os
import subprocess
import sys

import pytest

import support.programs.state_intruder
from frontdesk.keeper import landlock
from frontdesk.keeper.client import Keeper
from frontdesk.keeper.confinement import not_enforced
from frontdesk.keeper.environment import search_path
from frontdesk.keeper.hidden_directory import HiddenDirectory
from frontdesk.keeper.messages import Command, SpawnRequest
from gateway.running import ACME, RunningGateway, create, turn_of
from support.programs.keeper_children import fork, shell
from support.programs.state_intruder import attempts

SECRET = "the master secret"
WAYS = ("mount", "landlock") if os.geteuid() == 0 else ("landlock",)

pytestmark = pytest.mark.skipif(
    landlock.abi() < landlock.FILES_ABI, reason="this kernel's Landlock does not hide files"
)


@pytest.fixture
def place(tmp_path):
    """A state directory, and an agent's directories beside it."""
    for name in ("state/processes", "work", "home", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state" / "master.secret").write_text(SECRET)
    (tmp_path / "state" / "processes" / "1.keeper").write_text("a journal")
    (tmp_path / "work" / "mine").write_text("mine")
    return tmp_path


def environment_of(place, **more):
    """Return an environment in which an agent has its own directories."""
    own = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
    path = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(search_path())}
    return {**path, **own, **more}


def intruder(place, way):
    """Return the command line of a program that tries everything."""
    program = support.programs.state_intruder.__file__
    return (sys.executable, program, str(place / "state"), str(place / "work"), way)


def assert_untouched(place, went):
    """Check that nothing went through, whatever it was answered with."""
    assert set(went) == set(attempts("", ""))
    assert {name for name, how in went.items() if how == "done"} == set()
    assert (place / "state" / "master.secret").read_text() == SECRET
    assert (place / "state" / "processes" / "1.keeper").read_text() == "a journal"
    assert sorted(os.listdir(place / "state")) == ["master.secret", "processes"]
    assert os.listdir(place / "state" / "processes") == ["1.keeper"]


@pytest.mark.parametrize("way", WAYS)
def test_a_hidden_directory_is_neither_read_nor_changed_nor_moved(place, way):
    env = environment_of(place)
    done = subprocess.run(intruder(place, way), env=env, capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["problem"] is None
    assert_untouched(place, said["went"])


async def answer_of(keeper, request):
    """Return all that a process says."""
    process = await keeper.spawn(request)
    async with asyncio.timeout(20):
        answer = await process.reader.read()
    await process.end(0)
    return answer.decode()


def with_keeper(place, *requests, env=None):
    """Return what processes say whose keeper hides the state directory."""

    async def main():
        async with Keeper(hidden=place / "state") as keeper:
            return [await answer_of(keeper, request) for request in requests]

    return asyncio.run(main())


def test_a_program_that_a_keeper_starts_reaches_nothing_of_the_state(place):
    command = Command(argv=intruder(place, "none"), env=environment_of(place))
    request = SpawnRequest(run=command, cwd=str(place / "work"))
    (answer,) = with_keeper(place, request)
    assert_untouched(place, json.loads(answer)["went"])


def test_a_fork_reaches_nothing_of_the_state(place):
    env = environment_of(place, FILE_TO_READ=str(place / "state" / "master.secret"))
    own = environment_of(place, FILE_TO_READ=str(place / "work" / "mine"))
    answers = with_keeper(
        place,
        fork("read_a_file", env=env, cwd=str(place / "work")),
        fork("read_a_file", env=own, cwd=str(place / "work")),
    )
    assert answers[0].startswith("errno ")
    assert answers[1] == "mine"


def test_an_agent_works_in_its_own_directories_as_before(place):
    script = (
        "echo one > new && mkdir sub && mv new sub/new && ln sub/new linked && rm linked"
        " && echo two > $HOME/.agentrc && mv $HOME/.agentrc sub && cat sub/new sub/.agentrc"
        " && ls / > /dev/null && mktemp > /dev/null && ls .. && pwd"
    )
    request = shell(script, env=environment_of(place), cwd=str(place / "work"))
    (answer,) = with_keeper(place, request)
    assert answer.split() == [
        *("one", "two", "home", "state", "tmp", "work"),
        str(place / "work"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone has capabilities to lose")
def test_an_agent_under_root_mounts_nothing_and_takes_no_cover_away(place):
    state = place / "state"
    script = f"umount {state}; unshare -m true && echo done; cat {state}/master.secret; echo end"
    env = environment_of(place)
    (answer,) = with_keeper(place, shell(f"exec 2>/dev/null; {script}", env=env))
    assert answer == "end\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone has capabilities to lose")
def test_a_root_without_any_capability_starts_agents_all_the_same():
    without = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    code = "from frontdesk.keeper import capabilities; capabilities.drop()"
    ran = subprocess.run([*without, sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


# The keeper, which forks so, has no threads; the tests' process has.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_directory_that_an_agent_has_to_write_in_is_said_not_to_be_hidden(place):
    state = str(place / "state")
    for needed in (state, f"{state}/processes"):
        hidden = HiddenDirectory(path=state, needed=(needed,))
        (problem,) = not_enforced(hidden)
        assert "can read the state directory" in problem
        assert needed in problem
    assert not_enforced(HiddenDirectory(path=state, needed=(str(place / "work"),))) == ()


def test_without_mounts_what_leads_to_the_directory_is_not_for_new_files(place):
    """Where an agent has to make them, the directory stays in reach, and that is said."""
    env = environment_of(place, TMPDIR=str(place))
    command = intruder(place, "landlock")
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["problem"] == f"agents have to be able to write in {place}"
    assert said["went"]["read"] == "done"


def test_a_directory_of_another_account_needs_no_hiding(place):
    script = (
        "import os, sys\n"
        "from frontdesk.keeper.hidden_directory import HiddenDirectory as H\n"
        "h = H(path=sys.argv[1])\n"
        "before = h.within_reach\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"
        "print(before, h.within_reach)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place / "state")], capture_output=True, check=True
    )
    expected = b"True False" if os.geteuid() == 0 else b"True True"
    assert done.stdout.strip() == expected


# -- the gateway ---------------------------------------------------------------------------------

INTRUDER = {
    "kind": "python",
    "target": "support.programs.process_agents:intruder",
    "isolation": "process",
}


def test_an_agent_of_a_gateway_reads_neither_its_secret_nor_its_databases(place, monkeypatch):
    state = place / "state"
    files = ("master.secret", "keys.sqlite3", "usage.sqlite3")
    for name, value in environment_of(place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place / "work")
    agents = {"agents": None, "blueprints": {"intruder": INTRUDER}}
    with RunningGateway(state, **agents) as running, running.client(ACME) as client:
        create(client, "s", blueprint="intruder")
        assert all((state / name).is_file() for name in files)
        events = turn_of(client, "s", repr([("file", str(state / name)) for name in files]))
    said = "".join(data["delta"] for _, name, data in events if name == "message_delta")
    outcomes = ast.literal_eval(said)
    assert len(outcomes) == len(files)
    assert set(outcomes) <= {"ENOENT", "EACCES"}


def test_the_start_says_in_a_line_what_is_not_enforced(place, caplog, monkeypatch):
    monkeypatch.setattr(Keeper, "not_enforced", ("agents can do this", "agents can do that"))
    caplog.set_level(logging.WARNING)
    with RunningGateway(place / "state", agents=None, blueprints={"intruder": INTRUDER}):
        pass
    said = [each.message for each in caplog.records if "kept apart" in each.message]
    assert said == ["agents are not kept apart: agents can do this; agents can do that"]
