"""The site that `make site` built: complete, searchable, and of this host alone.

`make check` builds it before it runs this; where nobody has built it there is nothing to read.
"""

import json
import os
import re

import pytest
import yaml

from docs.pages import ROOT

SITE = ROOT / "site"
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
# What a page may point at and never loads: names of formats, and whom the builder thanks.
NOT_LOADED = ("http://www.w3.org/", "https://zensical.org/")

pytestmark = pytest.mark.skipif(
    not SITE.exists() and not os.environ.get("CI"), reason="`make site` was not run"
)


def files_of(nav):
    """Return the pages that a navigation lists, in order."""
    if isinstance(nav, str):
        return [nav]
    below = nav.values() if isinstance(nav, dict) else nav
    return [one for each in below for one in files_of(each)]


def built(name):
    """Return the page of the site that a document became."""
    folder = name.removesuffix(".md").removesuffix("index")
    return SITE / folder / "index.html"


@pytest.mark.parametrize("name", files_of(NAV))
def test_every_document_is_a_page_of_the_site(name):
    assert built(name).exists()


@pytest.mark.parametrize("name", files_of(NAV))
def test_a_page_loads_nothing_from_another_host(name):
    page = built(name).read_text(encoding="utf-8")
    loads = re.findall(
        r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?(https?:[^\"' >]+)", page
    )
    assert [url for url in loads if not url.startswith(NOT_LOADED)] == []


def test_the_search_finds_the_session_store():
    items = json.loads((SITE / "search.json").read_text(encoding="utf-8"))["items"]
    found = {item["location"].partition("#")[0] for item in items if "SessionStore" in item["text"]}
    assert "reference/registry/" in found
