"""What an agent leaves in its session's directories is removed with them, whatever it is."""

import asyncio
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.agents.acp.home import Home
from frontdesk.agents.acp.own_directory import OwnDirectory
from frontdesk.agents.acp.workdir import WorkDir
from frontdesk.agents.errors import CreateFailed
from support.acp import open_acp_service, open_session, turn_of
from support.exits import descriptors
from support.sessions import text
from support.waiting import eventually

ROOT = os.geteuid() == 0


@pytest.fixture
def place(monkeypatch):
    """Where directories of sessions are made: in memory, where thousands cost little."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        monkeypatch.setattr("tempfile.tempdir", place)
        yield Path(place)


@pytest.fixture
def own(place):
    """A directory of a session's, of which no descriptor is left."""
    before = descriptors()
    directory = OwnDirectory(prefix="session-", account=None)
    yield directory
    asyncio.run(directory.remove())
    assert descriptors() == before


def removed(own):
    """Remove it, and return whether nothing is left of it."""
    asyncio.run(own.remove())
    return not os.path.lexists(own.path) and os.listdir(os.path.dirname(own.path)) == []


def nest(path, depth, *, name="d", mode=0o777):
    """Make directories in each other, deeper than any path goes."""
    here = os.open(path, os.O_PATH)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_PATH, dir_fd=here)
        with open(f"/proc/self/fd/{inner}/file", "w"):
            pass
        os.chmod(f"/proc/self/fd/{here}", mode)
        os.close(here)
        here = inner
    os.close(here)


@pytest.mark.parametrize("depth", [0, 1, 4_000, 30_000])
def test_directories_nested_to_any_depth_are_removed(own, depth):
    nest(own.path, depth)
    assert removed(own)


@pytest.mark.parametrize("name", ["x" * 255, "\udcff\udc80", "a\nb", "-rf", ".removed-0", " ", "ü"])
def test_directories_of_any_name_are_removed(own, name):
    nest(own.path, 40, name=name)
    assert removed(own)


def test_many_files_and_directories_take_no_memory(own):
    for number in range(5_000):
        os.mkdir(f"{own.path}/{number}")
        for name in ("one", "two"):
            os.close(os.open(f"{own.path}/{number}/{name}", os.O_CREAT))
    tracemalloc.start()
    try:
        assert removed(own)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


REMOVE_UNDER = """
import asyncio, os, resource, sys
from frontdesk.agents.acp.own_directory import OwnDirectory
own = OwnDirectory(prefix="session-", account=None)
os.mkdir(own.path + "/sub")
if len(sys.argv) > 1:
    os.chown(own.path, int(sys.argv[1]), -1), os.chown(own.path + "/sub", int(sys.argv[1]), -1)
    os.setuid(int(sys.argv[1]))
here = own.path
os.chdir(own.path)
for _ in range(3000):
    os.mkdir("d"), os.close(os.open("f", os.O_CREAT)), os.chdir("d")
for _ in range(3000):
    os.chdir(".."), os.chmod("d", 0)
os.chmod(".", 0)
os.chdir("/")
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
sys.setrecursionlimit(200)
asyncio.run(own.remove())
assert not os.path.exists(own.path), "left"
print("gone")
"""


@pytest.mark.parametrize("account", ["65534", None] if ROOT else [None])
def test_few_descriptors_and_little_stack_are_enough_for_directories_that_nobody_may_enter(
    place, account
):
    """Under an account that modes hold for; under root as well."""
    place.chmod(0o777)
    env = os.environ | {"TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", REMOVE_UNDER, *filter(None, [account])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.stdout == "gone\n", done.stderr
    assert os.listdir(place) == []


def test_a_link_is_removed_and_not_what_it_leads_to(own, tmp_path):
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "kept").write_text("kept")
    os.symlink(outside, f"{own.path}/link")
    nest(own.path, 3)
    os.symlink(outside / "inner", f"{own.path}/d/d/link")
    os.symlink("/proc/self/root", f"{own.path}/d/all")
    os.mkfifo(f"{own.path}/d/fifo")
    assert removed(own)
    assert (outside / "inner" / "kept").read_text() == "kept"


def test_a_directory_that_its_agent_has_moved_is_removed_where_it_is(own):
    nest(own.path, 5)
    moved = f"{own.path}-moved"
    os.rename(own.path, moved)
    os.symlink("/etc", own.path)
    asyncio.run(own.remove())
    assert not os.path.lexists(moved)
    assert os.path.isdir("/etc")
    os.unlink(own.path)


def test_names_that_the_removal_would_use_itself_are_no_obstacle(own):
    for number in range(0, 60, 3):
        os.mkdir(f"{own.path}/.removed-{number}")
        nest(f"{own.path}/.removed-{number}", 4)
        os.close(os.open(f"{own.path}/.removed-{number + 1}", os.O_CREAT))
    nest(own.path, 100)
    assert removed(own)


NAMES = st.sampled_from(["a", "b", ".removed-0", ".removed-1", ".removed-2", "\udcfe", "c" * 200])
TREES = st.recursive(
    st.sampled_from(["file", "link", "fifo", "closed"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=30,
)


def grow(path, tree):
    """Make what a tree says at a path."""
    if isinstance(tree, dict):
        os.mkdir(path)
        for name, inner in tree.items():
            grow(f"{path}/{name}", inner)
    elif tree == "closed":
        os.mkdir(path, 0)
    elif tree == "link":
        os.symlink("/", path)
    elif tree == "fifo":
        os.mkfifo(path)
    else:
        os.close(os.open(path, os.O_CREAT, 0))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tree=TREES)
def test_any_tree_is_removed(place, tree):
    own = OwnDirectory(prefix="session-", account=None)
    grow(f"{own.path}/tree", tree)
    assert removed(own)


def test_what_cannot_be_removed_is_said(own, caplog):
    nest(own.path, 3)
    kept = f"{own.path}/d/d"
    if not ROOT or subprocess.run(["chattr", "+i", f"{kept}/file"], check=False).returncode:
        pytest.skip("a file that stays takes root and a file system that knows them")
    try:
        asyncio.run(own.remove())
        assert f"what a session left in {own.path} could not be removed" in caplog.text
    finally:
        found = subprocess.run(["find", own.path, "-name", "file"], capture_output=True, text=True)
        subprocess.run(["chattr", "-i", *found.stdout.split()], check=True)


# -- sessions ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_session_that_nested_4000_directories_leaves_none(place):
    async with open_acp_service("Untidy", home="session") as service:
        conversation = await open_session(service)
        places = text(await turn_of(conversation, "4000")).split()
        assert len(set(places)) == 2
        assert all(place in Path(each).parents for each in places)
        assert all(os.path.isdir(each) for each in places)
        await service.tenant("acme", "key-1").delete(conversation.session_id)
        # The answer does not wait for it longer than for an agent's end.
        await asyncio.to_thread(
            eventually, lambda: not any(os.path.lexists(each) for each in places)
        )


@pytest.mark.anyio
async def test_a_create_that_failed_leaves_no_directory(place):
    (place / "homes").write_text("not a directory")
    async with open_acp_service("Homely", homes=place / "homes") as service:
        with pytest.raises(CreateFailed):
            await open_session(service)
    assert os.listdir(place) == ["homes"]


@pytest.mark.skipif(not ROOT, reason="only root gives directories to another account")
def test_a_directory_that_cannot_be_given_to_its_account_is_not_left(place, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    before = descriptors()
    for make in (
        lambda: WorkDir(None, account="nobody"),
        lambda: Home("session", tenant_id="acme", homes=None, account="nobody"),
    ):
        with pytest.raises(PermissionError):
            make()
    assert os.listdir(place) == []
    assert descriptors() == before
