"""The table of `examples/`, made of their first lines, where a page says `<!-- examples -->`; and these files."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ASKED = "<!-- examples -->"
HOLD = "repository/examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, unless a page that links to one has."""
    for file in _examples(config):
        uri = f"{HOLD}/{file.name}"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A row for each."""
    if ASKED not in markdown:
        return markdown
    rows = [f"| [`{file.name}`]({HOLD}/{file.name}) | {_told(file)} |" for file in _examples(config)]
    return markdown.replace(ASKED, "\n".join(["| example | |", "|---|---|", *rows]))


def _examples(config: MkDocsConfig) -> Iterator[Path]:
    folder = Path(config.config_file_path).parent / "examples"
    yield from sorted(file for file in folder.iterdir() if file.suffix in (".py", ".ipynb"))


def _told(file: Path) -> str:
    """What it says of itself: the first paragraph of a script's docstring, or of a notebook's first text."""
    if file.suffix == ".py":
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    else:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        text = "".join(next((cell["source"] for cell in cells if cell["cell_type"] == "markdown"), []))
    lines = [line.lstrip("# ") for line in text.split("\n\n")[0].splitlines()]
    return " ".join(lines).replace("|", "\\|")
