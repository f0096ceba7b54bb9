"""Families that users bring: from a file, from an entry point, from Python; what they get wrong is said in one line."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import ConfigError, SpecError
from transfuse.network.families import FAMILIES, declare
from transfuse.network.families.vit import vit
from transfuse.network.registry import load_families

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "residual_mlp.py"
PAGE = ROOT / "docs" / "adding-a-family.md"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "transfuse", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


@pytest.fixture
def parents(tmp_path: Path) -> list[Path]:
    """Saved by a process of their own, as a user's would be."""
    code = (
        "import runpy, sys, torch\n"
        "made = runpy.run_path(sys.argv[1], run_name='example')\n"
        "for seed in (1, 2):\n"
        "    torch.manual_seed(seed)\n"
        "    model = made['ResidualForImageClassification'](made['ResidualConfig'](num_labels=3))\n"
        "    model.save_pretrained(f'{sys.argv[2]}/{seed}')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(EXAMPLE), str(tmp_path)], check=True, capture_output=True)
    return [tmp_path / "1", tmp_path / "2"]


def test_the_page_shows_the_example_and_it_is_short():
    code = EXAMPLE.read_text()
    assert code.strip() in PAGE.read_text()
    assert sum(bool(line.strip()) and not line.startswith(('"""', "import", "from")) for line in code.splitlines()) < 40


def test_a_file_teaches_the_command_line(parents: list[Path], tmp_path: Path) -> None:
    unknown = command("fuse", *parents, "-o", tmp_path / "out")
    assert unknown.returncode == 2
    assert "--spec" in unknown.stderr
    ran = command("fuse", *parents, "-o", tmp_path / "out", "--spec", EXAMPLE)
    assert ran.returncode == 0, ran.stderr
    load_families(str(EXAMPLE))
    fused, anchor, other = (load_model(path) for path in (tmp_path / "out", *parents))
    assert type(fused).__name__ == "ResidualForImageClassification"
    ours = transfuse.fuse([anchor, other]).model
    for name, values in ours.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], values)
    assert transfuse.check_declaration(anchor) < 1e-9


def test_a_declaration_that_is_not_true(tmp_path: Path) -> None:
    """A group too large, and a tensor left out, are named."""
    made = runpy.run_path(str(EXAMPLE), run_name="example")
    model = made["ResidualForImageClassification"](made["ResidualConfig"](num_labels=3))

    def too_large(config):
        s = transfuse.Builder("wrong")
        x, mlp = s.free("embed", config.hidden_size), s.free("mlp", config.hidden_size)
        hidden = s.free("hidden", config.intermediate_size)
        signed = hidden * s.free("scale", 1, transfuse.Group.LINEAR, within=hidden)  # a ReLU knows signs
        s.linear("embed", s.fixed("pixel", 64), x)
        s.linear("up", s.norm("norm", x), signed)
        s.linear("down", signed, mlp)
        s.linear("classifier", s.norm("last", s.join("sum", x, mlp)), s.fixed("class", 3))
        return s.build()

    def incomplete(config):
        s = transfuse.Builder("wrong")
        s.linear("embed", s.fixed("pixel", 64), s.free("embed", config.hidden_size))
        return s.build()

    transfuse.register(type(model), too_large)
    with pytest.raises(SpecError, match=r"moving space scale \(linear\) changes"):
        transfuse.check_declaration(model)
    transfuse.register(type(model), incomplete)
    with pytest.raises(SpecError, match="not declared"):
        transfuse.check_declaration(model)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "registers nothing"),
        ("raise RuntimeError('oh')", "RuntimeError: oh"),
        ("import nowhere", "nowhere"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import transfuse; transfuse.register('NoSuchModel', print)", "no class NoSuchModel"),
        ("import transfuse; transfuse.register(3, print)", "not a model class"),
        ("import transfuse; transfuse.register('ViTModel', 3)", "should be a function"),
    ],
)
def test_files_that_teach_nothing(text, told, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_families(str(tmp_path / "mine.py"))
    with pytest.raises(ConfigError, match="not a Python file"):
        load_families(str(tmp_path / "other.py"))


@pytest.mark.parametrize(("given", "told"), [(None, "not a Spec"), ("raise", "AttributeError")])
def test_a_declaration_that_fails(given, told, monkeypatch):
    monkeypatch.setitem(FAMILIES, "ViTModel", lambda config: config.nowhere if given else None)
    with pytest.raises(SpecError, match=told):
        declare(ViTConfig(), "ViTModel")


def test_an_installed_package_teaches_too(tmp_path: Path) -> None:
    """Through the entry point `transfuse.families`."""
    (tmp_path / "my_family.py").write_text(
        "import transfuse\nfrom transfuse.network.families.vit import vit\n"
        "transfuse.register('ViTForMaskedImageModeling', vit)\n"
    )
    facts = tmp_path / "my_family-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-family\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[transfuse.families]\nmine = my_family\n")
    code = (
        "from transfuse.network.registry import load_families, FAMILIES\n"
        "load_families()\n"
        "assert 'ViTForMaskedImageModeling' in FAMILIES"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})


def test_a_class_of_transformers_may_be_declared_anew(monkeypatch):
    monkeypatch.setitem(FAMILIES, "ViTForMaskedImageModeling", FAMILIES["ViTForImageClassification"])
    transfuse.register("ViTForMaskedImageModeling", vit)
    assert declare(ViTConfig(), "ViTForMaskedImageModeling").family == "vit"


def test_declared_families_are_true_of_their_models():
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9, image_size=8, patch_size=4
    )
    assert transfuse.check_declaration(ViTForImageClassification(config)) < 1e-9
