"""The site builds without a warning, its links lead somewhere, nothing comes from another host, its tables are true."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

import transfuse
from transfuse.cli import app

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the extra docs is not installed")
LOADED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "use": "href", "image": "href"}
SHEETS = ("stylesheet", "icon", "preload", "preconnect", "modulepreload")  # of <link>: what a browser fetches by itself


class Page(HTMLParser):
    """What a page fetches, what it links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if LOADED.get(tag) in found:
            self.fetched.append(found[LOADED[tag]])
        if tag == "link" and set(found.get("rel", "").split()).intersection(SHEETS):
            self.fetched.append(found["href"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    assert len(found) > 15
    return found


def broken(pages: dict[Path, Page]) -> Iterator[str]:
    """Links of a page, and what it fetches, that lead nowhere."""
    for file, page in pages.items():
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or file.name == "404.html":  # that page is told where it lies
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_file():
                yield f"{file.name}: {link} is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{file.name}: {link} has no such place"


def test_every_link_and_anchor_is_there(pages: dict[Path, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 500
    assert not list(broken(pages))


def test_a_broken_link_or_anchor_is_found(pages: dict[Path, Page]) -> None:
    file = next(file for file in pages if file.name == "index.html")
    wrong = Page(
        '<a href="nowhere.html">a</a><a href="#nothing">b</a><img src="none.png"><a href="https://x.org">c</a>'
    )
    assert len(list(broken({file: wrong}))) == 3


def test_nothing_comes_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    fetched = {link for page in pages.values() for link in page.fetched}
    assert len(fetched) > 20
    assert not [link for link in fetched if urlsplit(link).netloc]
    sheets = [file.read_text(encoding="utf-8") for file in site.rglob("*.css")]
    assert sheets
    assert not [text for text in sheets if "url(http" in text or "url(//" in text or "@import" in text]


def test_pages_that_are_filled_when_built_say_so_in_the_repository_alone(site: Path) -> None:
    noted = []
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        filled = re.search(r"^(::: |<!-- (options:|commands|examples))", text, re.MULTILINE)
        assert bool(filled) == ("<!-- unbuilt -->\n> " in text), page
        assert '\n=== "' not in text, f"{page}: tabs are text in the repository"
        if filled:
            built = (site / page.relative_to(ROOT / "docs")).with_suffix(".html").read_text(encoding="utf-8")
            assert "documentation is built" not in built
            noted.append(page)
    assert len(noted) > 5


def test_every_public_name_has_its_place(pages: dict[Path, Page]) -> None:
    places = {place for page in pages.values() for place in page.places}
    assert not {f"transfuse.{name}" for name in transfuse.__all__} - places


def test_every_command_and_option_is_described(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    missing = defaultdict(list)
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.hidden or f'id="transfuse-{name}"' in text
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            if f"<code>{option}</code>" not in text:
                missing[name].append(option)
    assert not missing


@pytest.mark.parametrize(
    "page",
    [
        "docs/results.md",
        "docs/choosing.md",
        "docs/log.md",
        "docs/solvers.md",
        "docs/scale.md",
        "docs/shrinking.md",
        "docs/carrying.md",
    ],
)
def test_tables_are_what_was_measured(page: str) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from tables import MARKS, filled

    text = (ROOT / page).read_text(encoding="utf-8")
    assert MARKS.search(text)
    assert filled(text) == text
