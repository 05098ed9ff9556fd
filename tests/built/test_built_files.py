"""What the wheel and the source distribution hold: all that they need, and nothing of ours."""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from built.building import ROOT, built, installed, ran

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NOT_SHIPPED = (".ci/", ".gitignore")
"""What only a checkout needs."""


def tracked():
    """Return the files of the tree that are under version control; of an unpacked one, all."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert listed.returncode == 0, "these tests run in a checkout"
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return built("sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_has_every_file_of_the_package_and_no_other(tmp_path):
    names = set(zipfile.ZipFile(built("wheel", tmp_path)).namelist())
    package = {name.removeprefix("src/") for name in tracked() if name.startswith("src/")}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert "frontdesk/py.typed" in names


def test_the_source_distribution_has_what_the_tests_and_the_makefile_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {
            name.partition("/")[2] for name in archive.getnames() if not name.endswith("PKG-INFO")
        }
    wanted = {name for name in tracked() if not name.startswith(NOT_SHIPPED)}
    assert wanted - names == set()
    assert {name for name in names - wanted if not name.startswith(".gitignore")} == set()


def test_from_the_source_distribution_the_tests_are_collected_and_the_same_wheel_is_built(
    sdist, tmp_path
):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    pip = ("-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path / "w")
    python = Path(ROOT / ".venv" / "bin" / "python")
    ran(python, *pip, ".", cwd=tree)
    (wheel,) = (tmp_path / "w").iterdir()
    here = built("wheel", tmp_path / "here")
    assert zipfile.ZipFile(wheel).namelist() == zipfile.ZipFile(here).namelist()
    collected = {}
    for place in (ROOT, tree):
        said = ran(python, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
                   "tests", cwd=place)  # fmt: skip
        collected[place] = said.stdout.splitlines()[-1].partition(" in ")[0]
    assert collected[tree] == collected[ROOT]
    # What reads the tree rather than the package finds all of it there. (The type checkers, the
    # generated clients and the pictures are about the package, and take minutes.)
    ran(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/style", "tests/docs",
        "-k", "not program and not shell and not site and not description and not test_types "
        "and not test_generated_clients and not test_screenshots", cwd=tree)  # fmt: skip


def test_the_wheel_alone_is_the_registry_and_needs_no_package(tmp_path):
    python = installed(built("wheel", tmp_path / "wheel"), tmp_path / "venv")
    listed = ran(python, "-m", "pip", "list", "--format=freeze").stdout.splitlines()
    names = {line.partition("==")[0] for line in listed}
    assert names - {"pip", "setuptools"} == {"frontdesk"}
    program = (
        "import asyncio\n"
        "from frontdesk import SessionStore\n"
        "async def main():\n"
        "    with SessionStore() as store:\n"
        "        task = asyncio.create_task(asyncio.sleep(60))\n"
        "        store.create('s', task, tenant_id='acme', api_key='k')\n"
        "        assert store.count() == 1\n"
        "        task.cancel()\n"
        "        await asyncio.wait([task])\n"
        "        assert store.count() == 0\n"
        "asyncio.run(main())\n"
    )
    ran(python, "-W", "error", "-c", program, cwd=tmp_path)
