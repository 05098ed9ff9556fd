"""The tables that are made from the code are on their pages as they are made."""

import pytest

from docs.tables import TABLES, table_below


@pytest.mark.parametrize(("one", "heading", "rows"), TABLES, ids=lambda each: str(each)[:40])
def test_a_table_is_the_one_that_make_format_writes(one, heading, rows):
    first, last = table_below(one.text, heading)
    written = one.text.splitlines()[first:last]
    assert written == rows, "change it where it is defined; `make format` writes the page"
