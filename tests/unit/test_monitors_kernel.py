"""What is read of the kernel: stat lines, abilities, statuses."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from frontdesk import ExitReason, InvalidArgument, InvalidType, ProcessNotFound, ProcessRef
from frontdesk.monitors import linux
from support.exits import Obedient, wait_for_zombie, wait_until


def stat_line(
    *, state="S", threads=1, start=77, wchan=0, status=0, comm="sleep", parent=1, group=1
):
    fields = ["0"] * 50
    fields[1:3] = str(parent), str(group)
    fields[0], fields[17], fields[19] = state, str(threads), str(start)
    fields[32], fields[49] = str(wchan), str(status)
    return f"4711 ({comm}) {' '.join(fields)}\n".encode()


@pytest.mark.parametrize("comm", ["sleep", "a) Z 1 (b", ") ) )", "(", "two words", "\n) R "])
def test_a_command_may_contain_anything(comm):
    read = linux.Stat(77, over=False, status=None, parent=17, group=18)
    assert linux.parse_stat(stat_line(comm=comm, parent=17, group=18)) == read


@pytest.mark.parametrize(
    ("state", "threads", "over"),
    [
        ("R", 1, False),
        ("S", 9, False),
        ("D", 1, False),
        ("T", 1, False),
        ("t", 1, False),
        ("Z", 1, True),
        ("Z", 2, False),
        ("X", 0, True),
        ("Z", 0, True),
    ],
)
def test_a_zombie_with_other_threads_is_alive(state, threads, over):
    assert linux.parse_stat(stat_line(state=state, threads=threads)).over is over


@pytest.mark.parametrize(
    ("status", "wchan", "read"),
    [(9, 1, 9), (768, 0, 768), (0, 1, 0), (0, 0, None)],
)
def test_a_zero_that_may_only_be_hidden_from_us_is_not_believed(status, wchan, read):
    stat = linux.parse_stat(stat_line(state="Z", wchan=wchan, status=status))
    assert stat.status == read


def test_the_status_of_what_runs_is_not_read():
    assert linux.parse_stat(stat_line(state="S", wchan=1, status=9)).status is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("exit 0", ExitReason.of("normal")),
        ("exit 3", ExitReason.exited(3)),
        ("kill -9 $$", ExitReason.signalled(9)),
    ],
)
def test_the_status_of_a_real_zombie_is_read(words, reason):
    with Obedient(words) as process:
        process.go()
        wait_for_zombie(process.pid)
        stat = linux.read_stat(process.pid)
        assert stat.over
        assert linux.reason_of_status(stat.status) == reason
        assert linux.status_of_child(process.pid, fd=None) == reason


def test_a_process_that_is_none_has_no_stat():
    with Obedient() as process:
        pass
    assert linux.read_stat(process.pid) is None


def test_a_system_without_proc_is_an_error_and_not_a_death(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(FileNotFoundError):
        linux.read_stat(2**22 + 1)


def test_what_cannot_be_tried_for_want_of_descriptors_is_not_a_missing_ability(monkeypatch):
    def full(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(OSError, match="Too many"):
        linux.probe_abilities()


def test_a_refusing_kernel_has_no_abilities(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert linux.probe_abilities() == linux.Abilities(processes=False, threads=False)


def test_a_closed_descriptor_is_not_readable():
    fd = os.pidfd_open(os.getpid())
    assert not linux.readable(fd)
    os.close(fd)
    assert not linux.readable(fd)


# -- ProcessRef --------------------------------------------------------------------------------


def test_a_ref_of_this_process_has_its_start_time():
    ref = ProcessRef.of(os.getpid())
    with open("/proc/self/stat") as file:
        assert ref == ProcessRef(os.getpid(), int(file.read().rsplit(")", 1)[1].split()[19]))


def test_a_ref_is_made_of_a_process_whose_name_is_a_trap(tmp_path):
    program = tmp_path / ") Z 1 2 3"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "1000"])
    try:
        # Until the exec, the child has the name of its parent.
        wait_until(lambda: b") Z 1" in Path(f"/proc/{process.pid}/stat").read_bytes())
        plain = ProcessRef.of(os.getpid())
        ref = ProcessRef.of(process.pid)
        assert ref.start_time >= plain.start_time
        assert not linux.read_stat(process.pid).over
    finally:
        process.kill()
        process.wait()


def test_a_zombie_can_be_named():
    with Obedient() as process:
        alive = ProcessRef.of(process.pid)
        process.go()
        wait_for_zombie(process.pid)
        assert ProcessRef.of(process.pid) == alive


def test_a_ref_of_no_process_is_refused():
    with Obedient() as process:
        pass
    with pytest.raises(ProcessNotFound) as caught:
        ProcessRef.of(process.pid)
    assert caught.value.pid == process.pid
    assert isinstance(caught.value, ProcessLookupError)


def test_a_thread_is_no_process():
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(ProcessNotFound):
            ProcessRef.of(thread.native_id)
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("pid", "start_time", "error"),
    [
        (0, 1, InvalidArgument),
        (-1, 1, InvalidArgument),
        (2**31, 1, InvalidArgument),
        (1, -1, InvalidArgument),
        ("1", 1, InvalidType),
        (1, 1.5, InvalidType),
        (True, 1, InvalidType),
    ],
)
def test_an_impossible_ref_is_refused(pid, start_time, error):
    with pytest.raises(error):
        ProcessRef(pid, start_time)
