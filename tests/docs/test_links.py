"""Links between the documents lead somewhere, and every document can be found from the index."""

from urllib.parse import urlsplit

import pytest
import yaml

from docs.pages import PAGES, ROOT, Page

DOCS = ROOT / "docs"


def inner_links(one):
    """Return the links of a page that stay within the repository."""
    return [link for link in one.links if not urlsplit(link).scheme]


@pytest.mark.parametrize("one", PAGES, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(one):
    for link in inner_links(one):
        name, _, anchor = link.partition("#")
        target = (one.path.parent / name).resolve() if name else one.path
        assert target.exists(), f"{one}: {link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{one}: {link} leads out of the repository"
        if anchor:
            assert anchor in Page(target).anchors, f"{one}: {link}: no such heading"


@pytest.mark.parametrize("one", [p for p in PAGES if p.path.is_relative_to(DOCS)], ids=str)
def test_documents_link_only_to_documents(one):
    """A site made of `docs/` has nothing else."""
    for link in inner_links(one):
        name = link.partition("#")[0]
        if name:
            assert (one.path.parent / name).resolve().is_relative_to(DOCS), f"{one}: {link}"


def test_the_site_lists_every_document():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(_files_of(site["nav"]))
    there = {str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md")}
    assert listed == there


def test_the_index_leads_to_every_document():
    index = Page(DOCS / "index.md")
    reached = {(DOCS / link.partition("#")[0]).resolve() for link in inner_links(index)}
    there = {path for path in DOCS.glob("**/*.md") if path != index.path}
    assert there <= reached


@pytest.mark.parametrize("one", PAGES, ids=str)
def test_a_page_has_one_title(one):
    titles = [line for line in one.prose if line.startswith("# ")]
    assert len(titles) == 1


def _files_of(nav):
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from _files_of(value if isinstance(value, list) else [value])
