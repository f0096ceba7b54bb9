"""Language models of many kinds from the command line: texts in, a checkpoint with all that belongs to it out."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import GPT2, NEO
from cli_inputs import Run, by_path, one_line
from languages import TEXTS, gpt2, llama, saved, t5
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GenerationConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import transfuse
from transfuse.errors import ConfigError


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return tmp_path / "texts.jsonl"


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("align", ["flow", "exact"])
def test_fused_measured_walked_and_tuned(build, align, tmp_path: Path, texts: Path, run: Run) -> None:
    a, b = (saved(tmp_path / str(seed), build, seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "fused", "--data", texts, "--align", align)
    assert ran.status == 0, ran
    assert "{{ messages }}" in (tmp_path / "fused" / "chat_template.jinja").read_text()
    assert GenerationConfig.from_pretrained(tmp_path / "fused").max_new_tokens == 7
    measured = run("eval", tmp_path / "fused", a, "--data", texts, "--json")
    found = by_path(measured)[str(a)]
    assert found["perplexity"] == pytest.approx(torch.tensor(found["loss"]).exp().item(), rel=1e-4)
    assert "perplexity" in run("eval", a, "--data", texts).out
    assert run("path", a, b, "--data", texts, "--align", align, "--points", 3).status == 0
    assert run("finetune", tmp_path / "fused", "--data", texts, "--teacher", b, "-o", tmp_path / "tuned").status == 0


@pytest.mark.parametrize("align", ["none", "flow", "exact"])
def test_fitted_layers(align, tmp_path: Path, texts: Path, run: Run) -> None:
    """Whatever aligned them, several models, weights of their own; every layer's gain is recorded."""
    models = [saved(tmp_path / str(seed), gpt2, seed) for seed in (1, 2, 3)]
    arguments = ("fuse", *models, "-o", tmp_path / "fused", "--align", align, "--merge", "least-squares")
    one_line(run(*arguments), ["least-squares", "--data"])
    ran = run(*arguments, "--data", texts, "--weights", "2,1,1")
    assert ran.status == 0, ran
    fits = json.loads((tmp_path / "fused" / "transfuse.json").read_text())["least_squares"]
    assert {"transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj"} <= fits.keys()
    assert all(0 <= fit["gain"] <= 1 for fit in fits.values())


def test_loss_is_that_of_the_library(tmp_path: Path, texts: Path, run: Run) -> None:
    """Mean over all tokens but the first of each text, as transformers computes it from labels."""
    a = saved(tmp_path / "a", llama, 1)
    found = by_path(run("eval", a, "--data", texts, "--json"))[str(a)]
    tokenizer, model = PreTrainedTokenizerFast.from_pretrained(a), LlamaForCausalLM.from_pretrained(a)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with torch.no_grad():
        loss = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
    assert found["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert found["samples"] == int((labels[:, 1:] != -100).sum())


def test_a_tokenizer_without_padding(tmp_path: Path, texts: Path, run: Run) -> None:
    a, b = (saved(tmp_path / str(seed), gpt2, seed, pad=None) for seed in (1, 2))
    assert run("fuse", a, b, "-o", tmp_path / "fused", "--data", texts).status == 0


def test_encoder_and_decoder(tmp_path: Path, texts: Path, run: Run) -> None:
    a, b = (saved(tmp_path / str(seed), t5, seed) for seed in (1, 2))
    for align in ("flow", "exact"):
        ran = run("fuse", a, b, "-o", tmp_path / align, "--data", texts, "--align", align)
        assert ran.status == 0, ran
    one_line(run("eval", a, "--data", texts), ["no labels"])


def test_another_precision(tmp_path: Path, run: Run) -> None:
    """Computed in float32, written as the anchor is; or as asked for."""
    a, b = (saved(tmp_path / str(seed), llama, seed) for seed in (1, 2))
    LlamaForCausalLM.from_pretrained(a, dtype=torch.bfloat16).save_pretrained(a)
    assert run("fuse", a, b, "-o", tmp_path / "same").status == 0
    assert run("fuse", a, b, "-o", tmp_path / "asked", "--dtype", "float32").status == 0
    for name, dtype in (("same", torch.bfloat16), ("asked", torch.float32)):
        tensors = load_file(tmp_path / name / "model.safetensors")
        assert {values.dtype for values in tensors.values()} == {dtype}


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As TensorFlow called a norm's gain and bias, with a constant that was once saved too."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values
        for name, values in tensors.items()
    }
    return renamed | {"bert.embeddings.position_ids": torch.arange(16)[None]}


def bare_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the first GPT-2 checkpoints: without a prefix, with the causal mask of every layer."""
    renamed = {name.removeprefix("transformer."): values for name, values in tensors.items()}
    return renamed | {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}


def with_masks(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the GPT-Neo checkpoints, with the causal mask of every layer."""
    masks = {f"transformer.h.{i}.attn.attention.bias": torch.ones(1, 1, 12, 12).tril().bool() for i in range(2)}
    return tensors | masks | {f"transformer.h.{i}.attn.attention.masked_bias": torch.tensor(-1e9) for i in range(2)}


def gpt_neo(words: int) -> GPTNeoForCausalLM:
    return GPTNeoForCausalLM(GPTNeoConfig(**{**NEO, "vocab_size": words}))


def bert(words: int) -> BertForMaskedLM:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return BertForMaskedLM(BertConfig(vocab_size=words, max_position_embeddings=16, **sizes))


@pytest.mark.parametrize(("build", "rename"), [(bert, old_names), (gpt2, bare_names), (gpt_neo, with_masks)])
@pytest.mark.parametrize("pickled", [False, True])
def test_old_checkpoints(build, rename, pickled, tmp_path: Path, run: Run) -> None:
    """They load, fuse as the new ones do, keep their names, and reload without a missing or unexpected key."""
    a, b = (saved(tmp_path / str(seed), build, seed) for seed in (1, 2))
    assert run("fuse", a, b, "-o", tmp_path / "new").status == 0
    for folder in (a, b):
        tensors = rename(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").unlink()
        if pickled:
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if pickled:
        one_line(run("fuse", a, b, "-o", tmp_path / "out"), ["--allow-pickle"])
    ran = run("fuse", a, b, "-o", tmp_path / "out", *(["--allow-pickle"] if pickled else []))
    assert ran.status == 0, ran
    constants = ("position_ids", "masked_bias", "attention.bias")
    assert {*load_file(tmp_path / "out" / "model.safetensors")} == {
        name for name in rename(load_file(tmp_path / "new" / "model.safetensors")) if not name.endswith(constants)
    }
    kind = type(build(30))
    found, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, values in kind.from_pretrained(tmp_path / "new").state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], values)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_without_data(build, tmp_path: Path, run: Run) -> None:
    """The models write the texts that they are fused by. The card says so, and the report repeats them."""
    a, b = (saved(tmp_path / str(seed), build, seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "fused", "--data", "generated", "--samples", 20)
    assert ran.status == 0, ran
    record = json.loads((tmp_path / "fused" / "transfuse.json").read_text())
    assert (record["data"], record["calibration_samples"]) == ("generated", 20)
    assert "least_squares" in record
    assert ran.out.splitlines()[-1].endswith(" of generated texts, the samples that were also used to make it.")
    card = (tmp_path / "fused" / "README.md").read_text()
    assert "texts that the models generated themselves" in card
    assert "--data generated" in card
    assert run("report", tmp_path / "fused").status == 0
    assert "samples: 20, each of up to" in run("plan", a, b, "--data", "generated", "--samples", 20).out
    for command in (("fuse", a, b), ("shrink", a, "--layers", 1), ("carry", a, b, a), ("plan", a, b)):
        written = () if command[0] == "plan" else ("-o", tmp_path / "other")
        ran = run(*command, *written, "--data", "generated", "--text-column", "text")
        one_line(ran, ["--text-column", "generated reads nothing"])
    reads: dict[str, Any] = {"data": "generated", "split": "train"}
    for call in (
        partial(transfuse.match, [a, b]),
        partial(transfuse.fuse, [a, b]),
        partial(transfuse.shrink, a, layers=1),
        partial(transfuse.carry, a, b, a),
    ):
        with pytest.raises(ConfigError, match=r"split: .* reads nothing"):
            call(**reads)


def test_models_that_cannot_write(tmp_path: Path, run: Run) -> None:
    a, b = (saved(tmp_path / str(seed), t5, seed) for seed in (1, 2))
    one_line(run("fuse", a, b, "-o", tmp_path / "fused", "--data", "generated"), ["cannot generate texts", "samples"])
    assert not (tmp_path / "fused").exists()


def test_named_columns(tmp_path: Path, run: Run) -> None:
    a, b = (saved(tmp_path / str(seed), gpt2, seed) for seed in (1, 2))
    path = tmp_path / "rows.jsonl"
    rows = [{"title": f"title {row}", "body": text} for row, text in enumerate(TEXTS)]
    path.write_text("\n".join(map(json.dumps, rows)))
    one_line(run("fuse", a, b, "-o", tmp_path / "out", "--data", path), ["no text column", "'title'"])
    one_line(run("fuse", a, b, "-o", tmp_path / "out", "--text-column", "body"), ["--text-column", "--data"])
    chosen = ("--data", path, "--text-column", "body")
    ran = run("fuse", a, b, "-o", tmp_path / "out", *chosen, "--report")
    assert ran.status == 0, ran
    assert "--text-column body" in (tmp_path / "out" / "README.md").read_text()
    assert run("report", tmp_path / "out").status == 0
    assert run("eval", tmp_path / "out", a, *chosen).status == 0
    assert run("plan", a, b, *chosen).status == 0
    assert run("path", a, b, *chosen, "--points", 3).status == 0
    tuned = run("finetune", tmp_path / "out", *chosen, "-o", tmp_path / "tuned")
    assert tuned.status == 0, tuned


@pytest.mark.parametrize("options", [(), ("--merge", "mean", "--match-on", "weights")])
def test_classifiers_get_the_padding_token_of_their_tokenizer(
    options: tuple[str, ...], tmp_path: Path, texts: Path, run: Run
) -> None:
    """No configuration has one, and parents are measured with the fused model, which may be made without samples."""

    def classifier(words: int) -> GPT2ForSequenceClassification:
        return GPT2ForSequenceClassification(GPT2Config(**{**GPT2, "vocab_size": words, "pad_token_id": None}))

    a, b = (saved(tmp_path / str(seed), classifier, seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", texts, *options)
    assert ran.status == 0, ran.err
    assert "nats from the parents" in ran.out
    line = run("path", a, b, "--data", texts, "--points", 3, *options[2:])
    assert line.status == 0, line.err
