"""Files of the repository that pages link to (figures, raw results, examples) become part of the site.

Pages link as they do where the repository is browsed, `../benchmarks/results/x.json`; in the site such a file lies
under `repository/`. A link to a folder, or to a page of text outside, keeps its text alone.
"""

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<up>(?:\.\./)+)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
HOLD = "repository"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked to and lies outside the pages' folder."""
    root = Path(config.config_file_path).parent
    wanted: set[str] = set()
    for file in files.documentation_pages():
        for match in LINK.finditer(file.content_string):
            target = _outside(match, file.src_uri)
            if target and _shown(root / target):
                wanted.add(target)
    for target in sorted(wanted):
        files.append(File.generated(config, f"{HOLD}/{target}", abs_src_path=str(root / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at these copies."""
    root = Path(config.config_file_path).parent

    def change(match: re.Match[str]) -> str:
        target = _outside(match, page.file.src_uri)
        if target is None:
            return match[0]
        if (root / target).exists() and not _shown(root / target):
            return match["text"]
        up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
        return f"{match['mark']}[{match['text']}]({up}{HOLD}/{target}{match['anchor'] or ''})"

    return LINK.sub(change, markdown)


def _outside(match: re.Match[str], page: str) -> str | None:
    """The target's path in the repository, if it lies outside the pages' folder."""
    depth = len(PurePosixPath(page).parts)
    return match["target"] if match["up"].count("../") == depth else None


def _shown(target: Path) -> bool:
    return target.is_file() and target.suffix != ".md"
