"""The working directory of a session: whatever a path is made of, nothing outside it is opened."""

import os
import threading

import pytest

from frontdesk.agents.acp.workdir import (
    MAX_DEPTH,
    MAX_FILE_BYTES,
    FileTooLarge,
    OutsideWorkDir,
    WorkDir,
)

SECRET = "the secret"


@pytest.fixture
def outside(tmp_path):
    """A directory next to the session's, with a secret in it."""
    place = tmp_path / "outside"
    (place / "deep").mkdir(parents=True)
    (place / "secret").write_text(SECRET)
    return place


@pytest.fixture
def home(tmp_path):
    place = tmp_path / "home"
    (place / "src" / "deep").mkdir(parents=True)
    (place / "src" / "a.txt").write_text("one\ntwo\nthree\n")
    return place


@pytest.fixture
def workdir(home):
    workdir = WorkDir(str(home))
    yield workdir
    workdir.close()


def read(workdir, path, **part):
    return workdir.read_text(str(path), **part)


# -- inside ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["src/a.txt", "src//a.txt", "./src/./a.txt", "src/deep/../a.txt", "src/deep/../../src/a.txt"],
)
def test_a_file_inside_is_read_however_its_path_is_written(workdir, home, path):
    assert read(workdir, f"{home}/{path}") == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("line", "limit", "text"),
    [
        (None, None, "one\ntwo\nthree\n"),
        (2, None, "two\nthree\n"),
        (2, 1, "two"),
        (None, 2, "one\ntwo"),
        (0, 1, "one"),
        (9, 1, ""),
        (1, 0, ""),
    ],
)
def test_lines_are_counted_from_one(workdir, home, line, limit, text):
    assert read(workdir, home / "src/a.txt", line=line, limit=limit) == text


@pytest.mark.parametrize("target", ["a.txt", "../src/a.txt", "deep/../a.txt", "again"])
def test_a_link_that_stays_inside_is_followed(workdir, home, target):
    (home / "src" / "again").symlink_to("a.txt")
    (home / "src" / "link").symlink_to(target)
    assert read(workdir, home / "src/link") == "one\ntwo\nthree\n"


def test_an_absolute_link_to_a_place_inside_is_followed(workdir, home):
    (home / "link").symlink_to(home / "src")
    assert read(workdir, home / "link/a.txt") == "one\ntwo\nthree\n"
    workdir.write_text(str(home / "link/b.txt"), "new")
    assert (home / "src" / "b.txt").read_text() == "new"


def test_a_file_is_written_and_its_directories_are_made(workdir, home):
    workdir.write_text(str(home / "new/place/file.txt"), "first and longer")
    workdir.write_text(str(home / "new/place/file.txt"), "second")
    assert (home / "new/place/file.txt").read_text() == "second"


def test_a_write_keeps_the_files_mode_and_its_other_names(workdir, home):
    (home / "src/a.txt").chmod(0o750)
    os.link(home / "src/a.txt", home / "other")
    workdir.write_text(str(home / "src/a.txt"), "changed")
    assert (home / "other").read_text() == "changed"
    assert (home / "other").stat().st_mode & 0o777 == 0o750


# -- outside -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "{outside}/secret",
        "{home}/../outside/secret",
        "{home}/src/../../outside/secret",
        "{home}/src/deep/../../../outside/secret",
        "{home}-and-more/secret",
        "/etc/passwd",
        "src/a.txt",
        "",
        "/",
    ],
)
def test_a_path_that_leads_out_is_refused(workdir, home, outside, path):
    path = path.format(home=home, outside=outside)
    with pytest.raises(OutsideWorkDir):
        read(workdir, path)
    with pytest.raises(OutsideWorkDir):
        workdir.write_text(path, "written")
    assert (outside / "secret").read_text() == SECRET


@pytest.mark.parametrize("target", ["{outside}", "../outside", "src/../../outside", "/", "../.."])
def test_a_link_to_a_directory_outside_is_refused(workdir, home, outside, target):
    (home / "link").symlink_to(target.format(outside=outside))
    (home / "link2").symlink_to("link")
    for name in ("link", "link2"):
        for path in (f"{name}/secret", f"{name}/new", f"{name}/outside/secret"):
            with pytest.raises(OutsideWorkDir):
                read(workdir, home / path)
            with pytest.raises(OutsideWorkDir):
                workdir.write_text(str(home / path), "written")
        with pytest.raises(OutsideWorkDir):
            workdir.directory(str(home / name))
    assert sorted(os.listdir(outside)) == ["deep", "secret"]


@pytest.mark.parametrize("target", ["secret", "not there yet"])
def test_a_link_to_a_file_outside_is_refused(workdir, home, outside, target):
    (home / "link").symlink_to(outside / target)
    with pytest.raises(OutsideWorkDir):
        read(workdir, home / "link")
    with pytest.raises(OutsideWorkDir):
        workdir.write_text(str(home / "link"), "written")
    assert sorted(os.listdir(outside)) == ["deep", "secret"]


def test_parents_are_not_made_through_a_link_to_the_outside(workdir, home, outside):
    (home / "link").symlink_to(outside)
    with pytest.raises(OutsideWorkDir):
        workdir.write_text(str(home / "link/new/deep/file"), "written")
    assert not (outside / "new").exists()


def test_links_in_a_circle_are_refused(workdir, home):
    (home / "one").symlink_to("two")
    (home / "two").symlink_to("one")
    with pytest.raises(OutsideWorkDir):
        read(workdir, home / "one")
    with pytest.raises(OutsideWorkDir):
        read(workdir, home / "one/file")


def test_a_path_that_is_too_deep_is_refused(workdir, home):
    with pytest.raises(OutsideWorkDir):
        workdir.write_text("/".join([str(home), *["d"] * (MAX_DEPTH + 2)]), "deep")


def test_a_link_that_is_swapped_all_the_time_never_leads_out(workdir, home, outside):
    inside = home / "inside"
    inside.mkdir()
    (inside / "secret").write_text("harmless")
    (home / "to-inside").symlink_to(inside)
    (home / "to-outside").symlink_to(outside)
    stop, seen = threading.Event(), set()

    def swap():
        turn = 0
        while not stop.is_set():
            turn += 1
            target = (outside, inside)[turn % 2]
            (home / "next").symlink_to(target)
            os.rename(home / "next", home / "swapped")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(3000):
            try:
                seen.add(read(workdir, home / "swapped/secret"))
            except (OutsideWorkDir, FileNotFoundError):
                seen.add(None)
    finally:
        stop.set()
        swapping.join()
    assert SECRET not in seen


# -- what is no file ---------------------------------------------------------------------------


def test_what_is_no_file_is_refused_and_nobody_waits_for_it(workdir, home):
    os.mkfifo(home / "pipe")
    for path in ("pipe", "src", ""):
        with pytest.raises(OSError):
            read(workdir, home / path)
        with pytest.raises(OSError):
            workdir.write_text(str(home / path), "text")


def test_a_file_in_place_of_a_directory_is_refused(workdir, home):
    with pytest.raises(NotADirectoryError):
        read(workdir, home / "src/a.txt/b")


def test_a_missing_file_is_missing(workdir, home):
    with pytest.raises(FileNotFoundError):
        read(workdir, home / "src/none")
    with pytest.raises(FileNotFoundError):
        read(workdir, home / "none/none")


def test_a_file_that_is_too_large_is_refused(workdir, home):
    with (home / "large").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(FileTooLarge):
        read(workdir, home / "large")
    with pytest.raises(FileTooLarge):
        workdir.write_text(str(home / "new"), "x" * (MAX_FILE_BYTES + 1))
    assert not (home / "new").exists()


def test_a_ground_that_is_closed_opens_nothing_and_no_descriptor_is_left(home):
    before = set(os.listdir("/proc/self/fd"))
    workdir = WorkDir(str(home))
    read(workdir, home / "src/a.txt")
    with pytest.raises(FileNotFoundError):
        read(workdir, home / "src/deep/none")
    workdir.close()
    workdir.close()
    with pytest.raises(OSError):
        read(workdir, home / "src/a.txt")
    assert set(os.listdir("/proc/self/fd")) == before
