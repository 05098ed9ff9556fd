"""The page of errors and the errors say the same: names, further base classes, facts, answers.

A new error is its class and a row of the gateway's table. The tables in the documents are made from
these two (`make format`), and the answers and the API description as well.
"""

import inspect

import pytest

import frontdesk
import frontdesk.cluster
import frontdesk.persistence
from docs.pages import page
from docs.tables import facts_of
from frontdesk import errors
from frontdesk.agents import errors as agents_errors
from frontdesk.cluster import errors as cluster_errors
from frontdesk.gateway import errors as gateway_errors
from frontdesk.gateway.error_answers import ANSWERS, INTERNAL
from frontdesk.gateway.error_table import ERRORS
from frontdesk.keeper import errors as keeper_errors
from frontdesk.persistence import errors as persistence_errors
from frontdesk.sessions import errors as sessions_errors

PAGE = page("docs/reference/errors.md")
KINDS = {
    name: kind
    for layer in (
        errors,
        keeper_errors,
        cluster_errors,
        persistence_errors,
        agents_errors,
        sessions_errors,
        gateway_errors,
    )
    for name, kind in vars(layer).items()
    if inspect.isclass(kind) and issubclass(kind, errors.FrontdeskError)
}
ROWS = {row[0].strip("`"): row for row in PAGE.rows() if len(row) == 4}


def spans(cell):
    """Return the words of a cell that are marked as code."""
    return set(cell.split("`")[1::2])


def test_the_page_lists_every_error_and_no_other():
    assert set(ROWS) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_page_says_what_else_an_error_is(name):
    bases = {base.__name__ for base in KINDS[name].__bases__}
    assert spans(ROWS[name][1]) == bases - {"FrontdeskError", "Exception"}


@pytest.mark.parametrize("name", KINDS)
def test_the_page_lists_the_facts_of_an_error(name):
    assert spans(ROWS[name][2]) == set(facts_of(KINDS[name]))


def test_every_error_of_every_layer_has_a_row_in_the_table_of_answers():
    assert set(ERRORS) == set(KINDS.values())


def test_every_answer_of_the_table_is_listed():
    assert {row.answer for row in ERRORS.values()} <= set(ANSWERS)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_answered_as_its_base_class_is_unless_no_client_is_meant_to_see_that(kind):
    bases = [ERRORS[base].answer for base in kind.__mro__[1:] if base in ERRORS]
    known = [answer for answer in bases if answer is not INTERNAL]
    own = ERRORS[kind].answer
    assert not known or own in known or own.status == known[0].status


@pytest.mark.parametrize("name", KINDS)
def test_every_error_is_exported_by_a_public_package(name):
    packages = (
        frontdesk,
        frontdesk.agents,
        frontdesk.cluster,
        frontdesk.gateway,
        frontdesk.persistence,
        frontdesk.sessions,
    )
    assert [each for each in packages if name in each.__all__ and hasattr(each, name)]
