"""What people give in place of a checkpoint of transformers: each is one line that says what it is and what to give."""

import json
import shutil
from pathlib import Path

import pytest
from checkpoints import edit_config, refuses

from transfuse.checkpoint.reading.load import load_empty, load_model


def test_the_folder_of_a_training_run_names_its_newest_checkpoint(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (5, 50, 100):
        shutil.copytree(saved, run / f"checkpoint-{step}")
    (run / "checkpoint-200").mkdir()  # interrupted before anything was written
    (run / "runs").mkdir()
    (run / "trainer_state.json").write_text("{}")
    refuses(run, f"{run}: ", "checkpoints of a training run", f"give the newest one, {run / 'checkpoint-100'}")
    load_empty(run / "checkpoint-100")


def test_a_training_run_that_saved_its_model_is_that_model(vit: Path) -> None:
    shutil.copytree(vit, vit / "checkpoint-5")
    load_model(vit)
    (vit / "model.safetensors").unlink()
    refuses(vit, f"give the newest one, {vit / 'checkpoint-5'}")


def test_checkpoints_without_a_model_are_not_recommended(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    refuses(tmp_path, "no config.json")


def test_named_adapters_of_peft(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text("{}")
    refuses(tmp_path, f"{tmp_path}: ", "adapters in subfolders", f"such as {tmp_path / 'mine'}")


def test_timm(vit: Path) -> None:
    settings = {"architecture": "vit_base_patch16_224", "num_classes": 10, "pretrained_cfg": {}}
    (vit / "config.json").write_text(json.dumps(settings))
    refuses(vit, str(vit / "config.json"), "timm", "vit_base_patch16_224", "convert it")


@pytest.mark.parametrize("with_config", [True, False])
def test_a_folder_of_gguf_files(vit: Path, with_config: bool) -> None:
    (vit / "model.safetensors").rename(vit / "model-q4.gguf")
    if not with_config:
        (vit / "config.json").unlink()
    refuses(vit, f"{vit}: ", "GGUF", "model-q4.gguf", "made from")


def test_a_gguf_file_beside_a_model_does_not_matter(vit: Path) -> None:
    (vit / "model-q4.gguf").write_bytes(b"GGUF")
    load_empty(vit)


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refuses(tmp_path / "model.gguf", "is a GGUF file", "give the folder")


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("bitsandbytes", "ViTForImageClassification.from_pretrained(FOLDER).dequantize()"),
        ("fp8", "FineGrainedFP8Config(dequantize=True)"),
        ("mxfp4", "Mxfp4Config(dequantize=True)"),
        ("gptq", "the tool that quantized them"),
        ("awq", "the tool that quantized them"),
        ("compressed-tensors", "the tool that quantized them"),
    ],
)
def test_quantized(vit: Path, method: str, how: str) -> None:
    edit_config(vit, quantization_config={"quant_method": method})
    advice = ["give the model that they were made from", how, "and save the tokenizer or processor with them"]
    refuses(vit, str(vit / "config.json"), f"quantized ({method})", *advice)


def test_quantized_by_an_unnamed_method(vit: Path) -> None:
    edit_config(vit, quantization_config={"load_in_8bit": True})
    refuses(vit, "quantized (bitsandbytes)")
    edit_config(vit, quantization_config="yes", architectures=[])
    refuses(vit, "weights are quantized;", "the tool that quantized them")


@pytest.mark.parametrize(
    ("name", "expected", "allow"),
    [("w.safetensors", "model.safetensors", False), ("w.bin", "pytorch_model.bin", True),
     ("w.pt", "pytorch_model.bin", True)],
)  # fmt: skip
def test_a_file_of_weights(saved: Path, tmp_path: Path, name: str, expected: str, allow: bool) -> None:
    shutil.copy(saved / "model.safetensors", tmp_path / name)
    words = ["is a file of weights without a configuration", f"holds it as {expected} beside the config.json"]
    refuses(tmp_path / name, *words, *(["--allow-pickle"] if allow else []))


def test_a_file_beside_its_configuration(saved: Path) -> None:
    refuses(saved / "model.safetensors", f"give the directory that holds it, {saved}")
