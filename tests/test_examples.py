"""Every example runs as its docstring says, and its table shows what that docstring promises."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "fuse.ipynb"
SHARED = {"common", "residual_mlp", "full_norm"}  # what examples import, and files for --spec
RULES = str.maketrans("┃│", "||")
BOTH = {"parent 1", "parent 2"}


def rows(text: str) -> dict[str, list[float]]:
    """The table in a text: of each model, its numbers."""
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.translate(RULES).splitlines())
    return {line[0]: [float(cell.rstrip("%")) for cell in line[1:]] for line in cells if line and line[0] != "model"}


def printed(name: str, folder: Path) -> str:
    """What an example prints."""
    run = [sys.executable, "-X", "utf8", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(run, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(name: str, folder: Path) -> tuple[str, dict[str, list[float]]]:
    """What an example prints, and its table."""
    out = printed(name, folder)
    return out, rows(out)


def gap_closed(table: dict[str, list[float]], column: int = 1) -> float:
    """How much of the way from the plain average's loss to the parents' mean loss the fusion went."""
    parents = [numbers[column] for name, numbers in table.items() if name.startswith("parent")]
    aim, start = sum(parents) / len(parents), table["plain average"][column]
    return (start - table["fusion"][column]) / (start - aim)


def test_what_there_is_is_tested_and_listed() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")} - SHARED
    assert names == {"bert", "carry", "extension", "five_models", "llama", "probe", "shrink", "vit", "widths"}
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert [name for name in [*names, NOTEBOOK.stem] if f"examples/{name}." not in page] == []


def test_an_extension(tmp_path: Path) -> None:
    """The quick one; its command, given in its docstring, does the same."""
    out, table = ran("extension", tmp_path)
    assert table.keys() == {*BOTH, "plain average", "fusion", "ensemble"}
    assert float(re.findall(r"changed by (\S+)\.\n", out)[0]) < 1e-9
    assert gap_closed(table) > 0.9
    assert table["fusion"][0] > table["plain average"][0] + 3
    assert (tmp_path / "out" / "extension" / "fused" / "transfuse.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "bert"])
def test_classifiers(name: str, tmp_path: Path) -> None:
    _, table = ran(name, tmp_path)
    assert table.keys() == {*BOTH, "plain average", "fusion", "ensemble"}
    worst = min(table[parent][0] for parent in BOTH)
    assert gap_closed(table) > 0.9
    assert table["plain average"][0] < worst - 30
    assert table["fusion"][0] > worst - 3


@pytest.mark.slow
def test_language_models(tmp_path: Path) -> None:
    out, table = ran("llama", tmp_path)
    assert gap_closed(table) > 0.8
    assert table["fusion"][2] < 1.2 * max(table[parent][2] for parent in BOTH) < table["plain average"][2]
    assert len(out[out.index("The expression is") :].split()) > 6


@pytest.mark.slow
def test_five_models(tmp_path: Path) -> None:
    _, table = ran("five_models", tmp_path)
    assert len(table) == 9
    assert gap_closed(table) > 0.9
    assert table["plain average"][0] < 30 < 85 < table["fusion"][0]


@pytest.mark.slow
def test_widths(tmp_path: Path) -> None:
    _, table = ran("widths", tmp_path)
    best_parent = max(table["narrow"][0], table["wide"][0])
    for shape in ("narrow", "wide"):
        assert table[f"fused into the {shape} shape"][0] > best_parent + 3
    assert table["into the wide shape, by transport maps"][0] < table["fused into the wide shape"][0] - 3


@pytest.mark.slow
def test_a_probe(tmp_path: Path) -> None:
    out = printed("probe", tmp_path)  # its table has a column of words
    own, bare, carried, native = (float(share) for share in re.findall(r"([\d.]+)%", out))
    assert carried > bare + 2  # by 5 to 33 points, since small parents differ between processors
    assert min(own, native) > 80


@pytest.mark.slow
def test_carrying(tmp_path: Path) -> None:
    out, _ = ran("carry", tmp_path)
    on_turned, on_upright = (rows(part) for part in out.partition("Upright digits:")[::2])
    assert on_turned["carried"][0] > on_turned["carried, no samples"][0] > on_turned["new base"][0]
    assert on_turned["carried"][0] > on_turned["tuned"][0] - 10
    assert on_upright["carried"][0] > on_upright["tuned"][0]


@pytest.mark.slow
def test_smaller_models(tmp_path: Path) -> None:
    _, table = ran("shrink", tmp_path)
    control = table["a quarter, untrained, taught (control)"]
    assert table["half"][0] > table["large"][0] - 2
    assert table["a quarter"][0] > control[0] + 10
    assert table["a quarter"][1] < control[1] / 2


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    """Executed from the first cell to the last, in a folder of its own."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for path in EXAMPLES.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    found = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output["data"] for output in found if "data" in output]
    (text,) = (data["text/plain"] for data in shown if "plain average" in data.get("text/plain", ""))
    assert gap_closed(rows(re.sub(r"\x1b\[[0-9;]*m", "", text))) > 0.9
    assert sum("image/png" in data for data in shown) == 2
