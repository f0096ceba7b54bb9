"""`transfuse plan` tells what would be matched, and the memory and disk space, without loading weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_inputs import SIZES, Run, World, one_line
from kinds import bert
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from transfuse.base.sizes import format_bytes, parse_bytes
from transfuse.checkpoint.reading import load


def told(world: World, run: Run, *more: object) -> dict[str, object]:
    ran = run("plan", world.a, world.b, "--json", *more)
    assert ran.status == 0, ran
    return dict(json.loads(ran.out))


def test_spaces_and_sizes(world: World, run: Run) -> None:
    found = told(world, run)
    spaces = {each["name"]: each for each in found["spaces"]}  # type: ignore[attr-defined]
    assert found["blocks"] == SIZES["num_hidden_layers"]
    assert spaces["hidden"] == {"name": "hidden", "units": 32, "group": "permutation", "inside": [], "count": 2}
    assert spaces["v"] == {"name": "v", "units": 8, "group": "linear", "inside": [2], "count": 2}
    assert spaces["stream"]["group"] == "centered orthogonal"
    size = sum(file.stat().st_size for file in Path(world.a).glob("*.safetensors"))
    assert 0.8 * size < found["output_bytes"] <= size  # type: ignore[operator]
    assert not found["streams"]
    assert not [name for name in found if "seconds" in name]
    assert told(world, run, "--align", "none")["spaces"] == []
    assert "soft plan" in {each["group"] for each in told(world, run, "--align", "flow")["spaces"]}  # type: ignore[attr-defined]


def test_little_memory_means_tensor_by_tensor(world: World, run: Run) -> None:
    least, most = (told(world, run)[name] for name in ("streamed_bytes", "loaded_bytes"))
    assert least < most  # type: ignore[operator]
    assert told(world, run, "--max-memory", least)["streams"]


def test_nothing_is_loaded(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_model", None)
    monkeypatch.setattr(load, "check_finite", None)
    assert run("plan", world.a, world.b).status == 0


def test_memory_with_samples(world: World, run: Run) -> None:
    """The parts of the peak add up; the table names them."""
    data = dict(told(world, run, "--data", world.images, "--merge", "least-squares")["data"])  # type: ignore[call-overload]
    assert (data["samples"], data["tokens"]) == (12, 5)
    assert set(data["parts"]) == {"program", "models", "statistics", "caches", "batches", "training", "freed"}
    assert sum(data["parts"].values()) == data["host_bytes"] >= data["least_bytes"]
    assert told(world, run)["data"] is None
    shown = run("plan", world.a, world.b, "--data", world.images, "--effort", "quick", "--merge", "learned").out
    assert [
        word for word in ("Gram matrices", "samples: 12, each of up to 5 tokens", "while") if word not in shown
    ] == []


def test_samples_that_do_not_fit(world: World, run: Run) -> None:
    given = ["--data", world.images, "--merge", "least-squares", "--max-memory"]
    one_line(run("plan", world.a, world.b, *given, "600MB"), ["max-memory", "allow at least that much"])
    one_line(run("plan", world.a, world.b, "--data", world.words), ["no image column"])
    one_line(run("plan", world.a, world.b, "--merge", "least-squares"), ["needs samples", "--data"])
    for data in ((), ("--data", world.images)):
        one_line(run("plan", world.a, world.b, *data, "--align", "learned"), ["--align", "is not predicted"])


def test_mistakes(world: World, run: Run) -> None:
    one_line(run("plan", world.a, world.deep), ["has 3 blocks, the anchor has 2"])
    one_line(run("plan", world.a, world.here / "nowhere"), ["nowhere", "no such directory"])
    one_line(run("plan", world.a, world.b, "--max-memory", "much"), ["--max-memory", "8GB", "much"])


def test_sizes_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("8GB", "1.5 MB", "2GiB", "12", "3k")] == [
        8 * 10**9, 1_500_000, 2 * 2**30, 12, 3000,
    ]  # fmt: skip
    assert [format_bytes(size) for size in (6.44e9, 5e6)] == ["6.4 GB", "5 MB"]


def test_a_missing_path_is_reported_before_slow_imports() -> None:
    code = (
        "import sys\nfrom transfuse.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", "/nowhere/one", "/nowhere/two"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr == "transfuse: /nowhere/one: no such directory; check the path\n"


def test_a_plan_imports_no_library_that_it_does_not_need(world: World) -> None:
    code = (
        "import sys\nfrom transfuse.cli import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    unused = {'ot', 'sklearn', 'scipy.stats', 'matplotlib', 'transformers.models.llama.modeling_llama'}\n"
        "    print(unused & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "plan", str(world.a), str(world.b)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == "set()\n"


def test_models_with_other_heads_or_positions(world: World, run: Run, tmp_path: Path) -> None:
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=2)
    b = bert(tmp_path / "b", BertForMaskedLM, 2, max_position_embeddings=80)
    one_line(run("plan", a, b), ["BertForMaskedLM", "with --head anchor"])
    one_line(run("plan", a, b, "--head", "anchor"), ["max_position_embeddings is 80", "with --positions anchor"])
    ran = run("plan", a, b, "--head", "anchor", "--positions", "anchor", "--json")
    assert ran.status == 0, ran
    assert "hidden" in {space["name"] for space in json.loads(ran.out)["spaces"]}


def test_models_of_one_base_with_other_heads_are_not_aligned(run: Run, tmp_path: Path) -> None:
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=2)
    b = bert(tmp_path / "b", BertForMaskedLM, 2)
    own = BertForMaskedLM.from_pretrained(b)
    own.bert.load_state_dict(BertForSequenceClassification.from_pretrained(a).bert.state_dict(), strict=False)
    own.save_pretrained(b)
    assert "share a base" in run("plan", a, b, "--head", "anchor").out


def test_blocks_that_a_shallower_model_gets(world: World, run: Run, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    config = ViTConfig.from_pretrained(world.b, num_hidden_layers=1)
    ViTForImageClassification(config).save_pretrained(shallow)
    shutil.copy(Path(world.b) / "preprocessor_config.json", shallow)
    found = json.loads(run("plan", world.a, shallow, "--json").out)
    assert found["size_changes"] == {str(shallow): {"layers": [1, 2]}}
    assert found["models"][1]["parameters"] < found["models"][0]["parameters"]
    assert "goes from 1 block to 2 blocks" in " ".join(run("plan", world.a, shallow).out.split())
    one_line(run("plan", shallow, world.a), ["has 2 blocks, the anchor has 1; give --data", "or put it first"])
    ran = run("plan", shallow, world.a, "--data", world.images)
    assert "goes from 2 blocks to 1 block" in " ".join(ran.out.split())


def test_of_a_class_without_a_declaration(tmp_path: Path, run: Run) -> None:
    config = MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=31, state_size=4)
    for name in ("a", "b"):
        MambaForCausalLM(config).save_pretrained(tmp_path / name)
    ran = run("plan", tmp_path / "a", tmp_path / "b", "--align", "none")
    assert "blocks: none known, so tensors are paired by name" in ran.out
