"""What is said of the families is true of all of them."""

from pathlib import Path

from transfuse.network.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_the_page_names_every_class():
    page = PAGE.read_text()
    assert [name for name in FAMILIES if f"`{name}`" not in page] == []
