"""What is shipped: declared, complete, and running where nothing but what it declares is installed."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from cases import CASES
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "transfuse"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_TRANSFORMERS = {"protobuf", "sentencepiece"}  # which reads tokenizers with them
EXTRAS = {"lap": "lapx"}  # what extras bring need not be installed here
PAGES = ("page.html", "parts.html", "fusion.html", "shrunk.html")
TRACKED = ("py.typed", *(f"report/{name}" for name in PAGES))  # what is no Python but shipped


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


def imported() -> set[str]:
    """The distributions of all third-party modules that the package imports anywhere."""
    modules: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(str(node.module).partition(".")[0])
    owners = packages_distributions()
    third = modules - sys.stdlib_module_names - {"transfuse"}
    return {canonicalize_name(EXTRAS.get(module) or owners[module][0]) for module in third}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    required, extras = names(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    optional = set().union(*(names(extras[extra]) for extra in extras if extra != "dev"))
    found = imported()
    assert found - required - optional == set()
    assert required - found == FOR_TRANSFORMERS


def test_every_dependency_has_a_floor() -> None:
    everything = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert [each for each in everything if ">=" not in each and not each.startswith("transfuse[")] == []


def test_the_version_stands_in_one_place() -> None:
    """And the changelog is in the form that it says it has."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", PROJECT["version"])
    told = re.compile(r"^__version__|" + re.escape(PROJECT["version"]), re.MULTILINE)
    assert [path for path in SOURCE.rglob("*.py") if told.search(path.read_text(encoding="utf-8"))] == []
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## Unreleased"
    assert all(re.fullmatch(r"## \d+\.\d+\.\d+\S* - \d{4}-\d\d-\d\d", line) for line in versions[1:])
    kinds = {line for line in lines if line.startswith("### ")}
    assert kinds <= {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, made from the source distribution, and the latter."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    return {"wheel": next(folder.glob("*.whl")), "source": next(folder.glob("*.tar.gz"))}


def run(command: list[str]) -> str:
    """What it prints, wherever this process looks for modules."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=plain, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        held = set(wheel.namelist())
        (facts,) = (name for name in held if name.endswith("/METADATA"))
        told = HeaderParser().parsestr(wheel.read(facts).decode())
    shipped = {str(path.relative_to(SOURCE.parent)) for path in SOURCE.rglob("*.py")}
    shipped |= {f"transfuse/{name}" for name in TRACKED}
    assert {name for name in held if ".dist-info/" not in name} == shipped
    assert {Path(name).name for name in held if ".dist-info/" in name} >= {"LICENSE", "entry_points.txt", "RECORD"}
    assert (told["Name"], told["Version"]) == ("transfuse", PROJECT["version"])
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Description-Content-Type"] == "text/markdown"
    assert all(told[field] for field in ("Summary", "Requires-Python", "Keywords", "Author"))
    assert told.get_payload().startswith("# transfuse")
    assert set(told.get_all("Provides-Extra") or ()) == set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_the_source_distribution_can_be_tested(built: dict[str, Path]) -> None:
    with tarfile.open(built["source"]) as source:
        top = {Path(name).parts[1] for name in source.getnames()}
    assert top >= {"src", "tests", "docs", "examples", "pyproject.toml", "LICENSE", "CHANGELOG.md", "README.md"}
    assert not top & {".git", ".venv", "out", "dist"}


@pytest.mark.slow
def test_it_runs_in_an_environment_of_its_own(built: dict[str, Path], tmp_path: Path) -> None:
    """Only the dependencies are borrowed, so that nothing is downloaded."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    binaries = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(binaries / "python")
    run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(built["wheel"])])
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    command = str(binaries / "transfuse")
    assert run([command, "--version"]) == f"transfuse {PROJECT['version']}\n"
    assert "fuse" in run([command, "--help"])
    assert Path(site) in Path(run([python, "-c", "import transfuse; print(transfuse.__file__)"])).parents
    models = [str(tmp_path / name) for name in "ab"]
    for seed, path in enumerate(models):
        CASES[0].build(seed).save_pretrained(path)
    run([command, "fuse", *models, "-o", str(tmp_path / "out"), "--quiet"])
    assert (tmp_path / "out" / "model.safetensors").is_file()
