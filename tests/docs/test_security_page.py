"""The page on security names tests that there are."""

import re

from docs.pages import ROOT, page

TESTS = {
    found
    for path in (ROOT / "tests").glob("**/test_*.py")
    for found in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_test_that_the_page_names_is_one_of_the_suite():
    named = {span for span in page("docs/explanation/security.md").code_spans if "test_" in span}
    assert len(named) > 30
    assert {span for span in named if span != "test_…"} <= TESTS
