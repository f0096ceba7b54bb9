"""Notes for readers of the repository, between `<!-- unbuilt -->` and `<!-- /unbuilt -->`, stay out of the site."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

NOTE = re.compile(r"<!-- unbuilt -->\n.*?<!-- /unbuilt -->\n\n?", re.DOTALL)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave them out."""
    return NOTE.sub("", markdown)
