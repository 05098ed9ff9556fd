"""The commands that the documents tell people to type exist, with these options."""

import itertools
import re
import shlex

import pytest
from typer.main import get_command

from docs.commands import COMMANDS_PAGE, HELP, leaves, page_text
from docs.pages import ROOT, blocks_in, commands_of, page
from frontdesk.cli.commands import app

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
ABOUT_ALL = {"Where and who", "What is printed", "Exit codes"}


def documented(program):
    """Return the documented command lines of a program: where each stands, and its words."""
    return [
        (str(block), list(itertools.takewhile(lambda word: word not in ("|", ">"), words[1:])))
        for block in blocks_in("sh")
        for words in map(shlex.split, commands_of(block))
        if words and words[0] == program
    ]


def parse(command, words):
    """Let a command read its words, without running it; it exits where it cannot."""
    context = command.make_context(command.name, list(words))
    if hasattr(command, "commands"):
        _, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(below, rest)


def options_of(command):
    """Return the options of a command, without those that every command has."""
    names = {name for each in command.params for name in each.opts if name.startswith("--")}
    return names.difference(HELP)


COMMANDS = dict(leaves(get_command(app)))


def test_the_two_commands_of_the_readme_are_in_the_makefile():
    readme = [
        line for b in page("README.md").blocks if b.language == "sh" for line in commands_of(b)
    ]
    assert {"make serve", "make test"} <= set(readme)
    assert {"serve", "test"} <= TARGETS


@pytest.mark.parametrize(("place", "words"), documented("make"))
def test_every_make_target_that_is_documented_exists(place, words):
    assert {word for word in words if "=" not in word} <= TARGETS, place


@pytest.mark.parametrize(("place", "words"), documented("frontdesk"))
def test_every_command_that_is_documented_exists(place, words):
    parse(get_command(app), words)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_lists_the_options_of_every_command(name):
    said = {
        option
        for row in COMMANDS_PAGE.rows(under=name)
        for option in row[0].strip("`").split(", ")
        if option.startswith("--")
    }
    assert said == options_of(COMMANDS[name])


def test_the_reference_lists_every_command_and_no_other():
    assert set(COMMANDS_PAGE.headings[1:]) == set(COMMANDS) | ABOUT_ALL


def test_the_reference_is_what_make_format_writes_from_the_help():
    assert COMMANDS_PAGE.text == page_text(), "change the help; `make format` writes the page"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_says_what_it_is(name):
    command = COMMANDS[name]
    assert command.help
    assert [each.name for each in command.params if not getattr(each, "help", None)] == []
