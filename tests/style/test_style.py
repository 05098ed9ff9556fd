"""The rules of style that no other tool holds, on the sources; and each finds a planted fault."""

from pathlib import Path

import pytest
from bench.structure import sources, words

from style import known

ROOT = Path(__file__).resolve().parents[2]
MODULES = sources.modules_of(ROOT)
MAX_LINES = 40
EVERYWHERE = {"errors.py", "__main__.py"}
"""Files that each layer may have, and that are found by their folder."""


def package(**files):
    """Make modules of what stands in files below the package; `a__b` is the file `a/b.py`."""
    paths = {name: Path(sources.PACKAGE, f"{name.replace('__', '/')}.py") for name in files}
    return [sources.module_from(paths[name], text) for name, text in files.items()]


def function_of(lines, *, docstring=0):
    """Write a function of so many lines, with a docstring of so many more."""
    text = ['    """' + "\n" * (docstring - 1) + '    """'] if docstring else []
    return "\n".join(["def long():", *text, *["    pass"] * (lines - 1)])


# -- words -----------------------------------------------------------------------------------------


def test_no_name_has_a_word_that_the_glossary_has_another_for():
    banned = words.banned_in(MODULES)
    new = {name: problem for name, problem in banned.items() if name not in known.BANNED_WORDS}
    assert new == {}
    assert known.BANNED_WORDS - set(banned) == set(), "gone: take it out of the list"


@pytest.mark.parametrize(
    "source",
    [
        "class TenantDesk: pass",
        "class RequestHandler: pass",
        "class Store:\n    def let_go(self): pass",
        "def start(*, most=3): pass",
        "def wait(timeout):\n    def _look_again(): pass",
        "class Store:\n    _told: bool = False",
        "class Store:\n    def __init__(self):\n        self.known_over = True",
    ],
    ids=lambda source: source.split("\n")[-1].strip(),
)
def test_a_banned_word_is_found_wherever_a_name_is_given(source):
    assert len(words.banned_in(package(store__core=source))) == 1


def test_a_module_named_utils_is_found():
    assert set(words.banned_in(package(store__utils=""))) == {"utils"}


@pytest.mark.parametrize(
    "source",
    [
        "def data_received(self, data): pass",
        "holder = 1\nclass Guestbook: pass",
        "def outlook(base_url): pass",
        "def close():\n    told = 1",
        "import desk",
    ],
)
def test_words_within_words_and_local_variables_are_no_names(source):
    assert words.banned_in(package(store__core=source)) == {}


def test_laws_are_named_by_sentences():
    source = "def a_finished_agent_has_ended_before_it_told(): pass"
    assert words.banned_in(package(testing__laws__ends=source)) == {}
    assert words.banned_in(package(testing__law=source)) != {}


# -- functions -------------------------------------------------------------------------------------


def test_no_function_is_longer_than_a_screen():
    long = sources.longer_than(MAX_LINES, MODULES)
    assert {name: lines for name, lines in long.items() if name not in known.LONG_FUNCTIONS} == {}
    assert known.LONG_FUNCTIONS - set(long) == set(), "gone: take it out of the list"


def test_a_function_of_a_line_too_many_is_found_and_its_docstring_is_not_counted():
    assert sources.longer_than(MAX_LINES, package(feed=function_of(MAX_LINES + 1)))
    assert not sources.longer_than(MAX_LINES, package(feed=function_of(MAX_LINES, docstring=9)))


def test_few_private_functions_are_used_once():
    share = sources.share_used_once(MODULES)
    assert share <= known.USED_ONCE_PERCENT, [str(each) for each in sources.used_once(MODULES)]


def test_a_private_function_that_is_used_once_is_found_and_others_are_not():
    modules = package(
        feed="def _once(): pass\ndef _twice(): pass\ndef public(): _once(), _twice(), _twice()",
        clock="class A:\n    def _one(self): pass\n    def __len__(self): return self._one()",
    )
    assert [str(each) for each in sources.used_once(modules)] == [
        "frontdesk.feed:_once",
        "frontdesk.clock:A._one",
    ]
    assert sources.share_used_once(modules) == 40


# -- names once by layers --------------------------------------------------------------------------


def test_no_two_layers_have_a_class_or_a_file_of_one_name():
    several = {
        name: places
        for name, places in sources.in_several_layers(MODULES).items()
        if name not in EVERYWHERE
    }
    assert {n: places for n, places in several.items() if n not in known.IN_SEVERAL_LAYERS} == {}
    assert known.IN_SEVERAL_LAYERS - set(several) == set(), "gone: take it out of the list"


def test_a_name_in_two_layers_is_found_and_one_in_two_files_of_a_layer_is_not():
    modules = package(
        store__usage="class Usage: pass\nclass _Own: pass",
        gateway__usage="class Usage: pass\nclass _Own: pass\nclass Key: pass",
        gateway__keys="class Key: pass",
    )
    assert set(sources.in_several_layers(modules)) == {"Usage", "usage.py"}


# -- imports ---------------------------------------------------------------------------------------


def test_no_module_imports_itself_in_the_end():
    assert sources.import_cycles(MODULES) == []


@pytest.mark.parametrize(
    "back",
    [
        "from frontdesk.feed import Ring",
        "from frontdesk import feed",
        "import frontdesk.feed",
        "if TYPE_CHECKING:\n    from frontdesk.feed import Ring",
        "def late():\n    from frontdesk.feed import Ring",
    ],
)
def test_a_cycle_is_found_also_where_it_is_for_types_or_late(back):
    modules = package(
        feed="from frontdesk.clock import Clock", clock="import frontdesk.errors", errors=back
    )
    assert sources.import_cycles(modules) == [
        ["frontdesk.clock", "frontdesk.errors", "frontdesk.feed"]
    ]


def test_no_module_uses_a_private_name_of_another():
    assert sources.private_names_of_others(MODULES) == []


@pytest.mark.parametrize(
    "source",
    [
        "from frontdesk.feed import _wake",
        "def late():\n    from frontdesk.feed import _wake as wake",
        "from frontdesk import feed\nfeed._wake()",
        "from frontdesk import feed as other\nother._wake()",
        "import frontdesk.feed\nfrontdesk.feed._wake()",
    ],
)
def test_a_private_name_of_another_is_found(source):
    modules = package(feed="def _wake(): pass", clock=source)
    assert len(sources.private_names_of_others(modules)) == 1


# -- types -----------------------------------------------------------------------------------------


def test_the_store_is_typed():
    assert sources.uses_of_any(MODULES, "store") == {}


def test_any_is_found_by_either_name_and_its_import_is_not():
    modules = package(
        store__core="from typing import Any\nimport typing\nx: Any\ny: dict[str, typing.Any]",
        feed="from typing import Any\nx: Any",
    )
    assert sources.uses_of_any(modules, "store") == {"frontdesk.store.core": 2}
