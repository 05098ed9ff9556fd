"""To type checkers the library is what it is at run time: its names, its pages, its refusals.

mypy and Pyright run once each, strictly, over the programs of all pages and over the cases of
`typed/`; then Pyright once more, over every public name of the package.
"""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from docs.pages import HOSTED_ELSEWHERE, ROOT, blocks_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CASES = Path(__file__).parent / "typed"
EXPECTED = re.compile(r"# refused: (?P<mypy>[\w-]+) / (?P<pyright>\w+)$")
MYPY = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+):.* error: (?P<text>.*)  \[(?P<rule>[\w-]+)\]$")

WRONG_ON_PURPOSE = (
    # A coroutine where an agent belongs: what the section is about.
    "agent must be a task,",
    # A module that is made to look as if it were not installed.
    "frontdesk.agents needs the package 'msgspec'",
)
"""Where the headings of troubleshooting begin whose programs type checkers find wrong, too."""

NOT_INSTALLED = tuple(f"frontdesk.agents.{name}." for name in ("openai_agents", "langgraph", "adk"))
"""What stands on a framework that is not in this environment: its base classes are unknown here."""


def environment():
    """Return an environment in which the tools find this interpreter, and look for no news."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


def run(*command, folder):
    """Run a tool to its end and return what it printed."""
    ran = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Write every program of the pages, and the cases, into one folder; return their blocks."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    written = {}
    for block in (each for each in blocks_in("python") if each.page != HOSTED_ELSEWHERE):
        name = re.sub(r"\W", "_", f"{block.page.removesuffix('.md')}_{block.line}") + ".py"
        (folder / name).write_text(block.source, encoding="utf-8")
        written[name] = block
    for case in CASES.glob("*.py"):
        (folder / case.name).write_text(case.read_text(encoding="utf-8"), encoding="utf-8")
    return folder, written


@pytest.fixture(scope="module")
def mypy_errors(programs):
    """Return what mypy refuses: (file, line) to (rule, text)."""
    folder, _ = programs
    # The settings, and the cache, of the package: what it stands on was read already.
    command = ("-m", "mypy", "--strict", "--no-pretty", "--hide-error-context")
    told = run(sys.executable, *command, *map(str, sorted(folder.glob("*.py"))), folder=ROOT)
    found = defaultdict(list)
    for line in told.splitlines():
        if error := MYPY.match(line):
            at = Path(error["file"]).name, int(error["line"])
            found[at].append((error["rule"], error["text"]))
    assert found or "no issues" in told, told
    return found


@pytest.fixture(scope="module")
def pyright_errors(programs):
    """Return what Pyright refuses: (file, line) to (rule, text)."""
    folder, _ = programs
    told = json.loads(run("pyright", "--outputjson", folder=folder))
    assert told["summary"]["filesAnalyzed"] >= len(list(folder.glob("*.py")))
    found = defaultdict(list)
    for one in told["generalDiagnostics"]:
        at = Path(one["file"]).name, one["range"]["start"]["line"] + 1
        found[at].append((one.get("rule", ""), one["message"]))
    return found


def on_pages(errors, written):
    """Return the errors in programs of pages, by the place on the page."""
    return {
        f"{written[name].page}:{written[name].line + line}": texts
        for (name, line), texts in sorted(errors.items())
        if name in written and not written[name].heading.startswith(WRONG_ON_PURPOSE)
    }


def test_every_program_of_the_pages_passes_mypy_strictly(programs, mypy_errors):
    assert on_pages(mypy_errors, programs[1]) == {}


def test_every_program_of_the_pages_passes_pyright_strictly(programs, pyright_errors):
    assert on_pages(pyright_errors, programs[1]) == {}


def test_a_program_that_is_wrong_on_purpose_is_found_wrong(programs, mypy_errors, pyright_errors):
    for errors in (mypy_errors, pyright_errors):
        headings = {programs[1][name].heading for name, _ in errors if name in programs[1]}
        assert all(any(each.startswith(begin) for each in headings) for begin in WRONG_ON_PURPOSE)


def in_case(errors, name):
    """Return the errors in one of the cases: line to rules."""
    return {
        line: {rule for rule, _ in texts}
        for (file, line), texts in sorted(errors.items())
        if file == name
    }


def test_what_is_to_be_accepted_is_accepted_by_both(mypy_errors, pyright_errors):
    assert in_case(mypy_errors, "accepted.py") == {}
    assert in_case(pyright_errors, "accepted.py") == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_is_to_be_refused_is_refused_and_nothing_else(checker, mypy_errors, pyright_errors):
    lines = (CASES / "refused.py").read_text(encoding="utf-8").splitlines()
    expected = {
        number: found[checker]
        for number, line in enumerate(lines, start=1)
        if (found := EXPECTED.search(line))
    }
    assert len(expected) > 20
    found = in_case({"mypy": mypy_errors, "pyright": pyright_errors}[checker], "refused.py")
    assert list(found) == list(expected)
    # Pyright says on the same line what follows from it.
    assert {line for line, rule in expected.items() if rule not in found[line]} == set()


def test_every_public_name_has_a_type_that_all_checkers_read_alike():
    told = json.loads(
        run(
            "pyright", "--verifytypes", "frontdesk", "--ignoreexternal", "--outputjson", folder=ROOT
        )
    )
    symbols = told["typeCompleteness"]["symbols"]
    wanting = {
        symbol["name"]: [one["message"] for one in symbol["diagnostics"]]
        for symbol in symbols
        if symbol["isExported"] and not symbol["isTypeKnown"]
        if not symbol["name"].startswith(NOT_INSTALLED)
    }
    assert len(symbols) > 5000
    assert wanting == {}
