"""The pictures of the real thing show what it shows now."""

import re

import pytest

from browser.chromium import chromium
from docs.screenshots import (
    IMAGES,
    MAX_PNG_BYTES,
    SHOWN,
    at_a_terminal,
    dashboard,
    said_at,
    scene,
    text_of,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def gateway():
    with scene() as gateway:
        yield gateway


def shown(name):
    return (SHOWN / f"{name}.txt").read_text(encoding="utf-8")


def test_the_dashboard_is_as_its_picture(gateway):
    with chromium() as browser, dashboard(gateway, browser) as page:
        assert text_of(page) == shown("dashboard"), "`make format` takes another picture"


def test_the_terminal_is_as_its_picture(gateway):
    assert said_at(at_a_terminal(gateway)) == shown("terminal"), "`make format` draws another one"


def test_the_pictures_are_small_and_load_nothing():
    assert (IMAGES / "dashboard.png").stat().st_size < MAX_PNG_BYTES
    drawn = (IMAGES / "terminal.svg").read_text(encoding="utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/)", drawn) == []
    assert "crashed" in drawn
