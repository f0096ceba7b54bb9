"""Imports go one way: a folder imports only from those before it in the order that CONTRIBUTING.md states."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "transfuse"


def order() -> list[str]:
    """Read the order from CONTRIBUTING.md: a line of names with arrows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^errors ← .*(?:\n.*←.*)*", text, re.MULTILINE)
    return re.findall(r"\w+", line)


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the folder of every import of a file, and its line."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("transfuse."):
            yield node.module.split(".")[1], node.lineno


def test_every_folder_has_its_place() -> None:
    folders = {path.stem for path in SOURCE.iterdir() if path.name not in ("__pycache__", "py.typed")}
    assert folders - {"__init__", "__main__", "streaming"} == set(order())


def test_imports_go_one_way() -> None:
    rank = {name: position for position, name in enumerate(order())}
    wrong = [
        f"{file.relative_to(ROOT)}, line {line}: {folder} stands above {file.relative_to(SOURCE).parts[0]}"
        for file in SOURCE.rglob("*.py")
        if (own := file.relative_to(SOURCE).parts[0].removesuffix(".py")) in rank
        for folder, line in imports(file)
        if rank[folder] > rank[own]
    ]
    assert wrong == []
