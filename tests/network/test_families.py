"""What is said of the families is true of all of them."""

from pathlib import Path

import transformers

from transfuse.network.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_the_page_names_every_class():
    page = PAGE.read_text()
    ours = [name for name in FAMILIES if hasattr(transformers, name)]  # other tests may have registered their own
    assert [name for name in ours if f"`{name}`" not in page] == []
