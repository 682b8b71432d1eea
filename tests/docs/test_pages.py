"""Links lead somewhere, lengths are kept, and nothing stands in the documentation that must not."""

from __future__ import annotations

import re

import pytest
from tests.docs import pages

PAGES = {str(path.relative_to(pages.ROOT)): path for path in pages.all_pages()}
_PARTS = ("Context", "Choice", "Cost")
LONGEST = {"README.md": 150, "ARCHITECTURE.md": 200}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    path = PAGES[name]
    for link in pages.links(path):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{name}: {link}"
        assert not anchor or anchor in pages.anchors(found), f"{name}: {link} names no heading"


def test_every_page_can_be_reached_from_the_readme():
    seen, waiting = set(), [pages.ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in seen and path.suffix == ".md" and path.is_file():
            seen.add(path)
            waiting += [
                (path.parent / link.partition("#")[0]).resolve() for link in pages.links(path) if "://" not in link
            ]
        elif path.is_dir():
            waiting += sorted(path.glob("*.md"))
    assert not set(pages.all_pages()) - seen


@pytest.mark.parametrize("name", LONGEST)
def test_a_page_that_must_be_short_is(name):
    assert len(PAGES[name].read_text().splitlines()) <= LONGEST[name]


def test_a_decision_fits_on_a_page():
    for path in (pages.DOCS / "decisions").glob("*.md"):
        assert len(path.read_text().split()) <= 600, path.name
        assert all(re.search(rf"^(## |\*\*){part}", path.read_text(), re.MULTILINE) for part in _PARTS), path.name


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_package_registry(name):
    hosts = re.findall(r"https?://([\w.-]+)", PAGES[name].read_text())
    assert not [host for host in hosts if re.search(r"pypi|pythonhosted|npmjs|crates\.io|index|simple|mirror", host)]


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_a_machine_of_ours(name):
    assert not re.search(r"/(?:work|home|root|Users)/\w", PAGES[name].read_text())
