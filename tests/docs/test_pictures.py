"""The pictures that are drawn from the code are as they are drawn."""

import pytest

from docs.pictures import PICTURES


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_the_one_that_make_format_draws(path):
    assert path.read_text(encoding="utf-8") == PICTURES[path]
