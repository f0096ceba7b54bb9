"""Whatever slips past the comparison of configurations, an alignment that changes a function is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, HEADS, Case

from transfuse import fuse
from transfuse.errors import SpecError, TransfuseError

Way = Callable[..., Any]
named = {case.name: case for case in CASES}
BLIND = {  # what no shape shows; and where the outputs begin to differ
    "LlamaForCausalLM": ({"hidden_act": "relu"}, "between model.layers.0.post_attention_layernorm and model.layers.1"),
    "GPT2LMHeadModel": ({"activation_function": "relu"}, "between transformer.h.0.ln_2 and transformer.h.1.ln_1"),
    "ViTForImageClassification": ({"layer_norm_eps": 1.0}, "between vit.layers.0.layernorm_before and"),
    "T5ForConditionalGeneration": ({"scale_decoder_outputs": True}, "after decoder.final_layer_norm"),
}  # fmt: skip
blind = pytest.mark.parametrize("name", BLIND)


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody compares configurations."""
    monkeypatch.setattr("transfuse.fusion.models.compatible.check_same_function", lambda *_: None)


def pair(case: Case, changes: dict[str, Any]) -> list[Any]:
    first, second = (case.build(seed).float() for seed in (1, 2))
    config = second.config
    for name, value in changes.items():
        setattr(config, name, value)
    changed = type(second)(config).float().eval()
    changed.load_state_dict(second.state_dict())
    return [first, changed]


def in_memory(models: list[Any], folder: Path, **options: Any) -> Any:
    return fuse(models, **options).record


def from_files(models: list[Any], folder: Path, **options: Any) -> Any:
    paths = [folder / name for name in ("a", "b")]
    for model, path in zip(models, paths, strict=True):
        model.save_pretrained(path)
    fusion = fuse(paths, stream=True, **options)
    fusion.save(folder / "out")
    return fusion.record


@blind
@pytest.mark.parametrize("way", [in_memory, from_files])
@pytest.mark.parametrize("align", ["exact", "none"])
def test_a_function_that_changes_is_refused(name: str, way: Way, align: str, tmp_path: Path) -> None:
    changes, begins = BLIND[name]
    with pytest.raises(SpecError) as caught:
        way(pair(named[name], changes), tmp_path, align=align)
    message = str(caught.value)
    assert begins in message, message
    assert "off by" in message
    assert "0.01 in float32" in message
    assert message.startswith("model 2:" if way is in_memory else str(tmp_path / "b"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", [in_memory, from_files])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_function_that_stays_is_not(case: Case, way: Way, tmp_path: Path) -> None:
    models = [case.build(seed).float() for seed in (1, 2)]
    try:
        record = way(models, tmp_path)
    except TransfuseError as error:
        if "does not store all its tensors one by one" in str(error):
            pytest.skip("experts are put together, and positions computed, when a model is loaded")
        raise
    assert 0 <= record["alignments"][0]["output_deviation"] < 1e-3


def test_half_precision_is_judged_by_its_own_limit() -> None:
    case = named["LlamaForCausalLM"]
    models = [case.build(seed).to(torch.bfloat16) for seed in (1, 2)]
    assert fuse(models).alignments[0].output_deviation < 1e-3
    with pytest.raises(SpecError, match=r"at most 0\.05 in bfloat16"):
        fuse([each.to(torch.bfloat16) for each in pair(case, {"hidden_act": "relu"})])


@pytest.mark.parametrize("bias", [0.0, -100.0, -10_000.0])
def test_a_class_out_of_reach_hides_nothing(bias: float) -> None:
    """Its score is the largest output, and does not change."""
    case = named["LlamaForCausalLM"]
    models = [case.build(seed, tie_word_embeddings=False).float() for seed in (1, 2)]
    source = models[1]
    for layer in source.model.layers:
        layer.mlp.act_fn = torch.nn.ReLU()  # not what its configuration says
    head = source.lm_head
    head.register_forward_hook(lambda module, inputs, output: output + bias * torch.nn.functional.one_hot(
        torch.tensor(3), output.shape[-1]))  # fmt: skip
    with pytest.raises(SpecError, match="its function changed in alignment"):
        fuse(models, weights=(0, 1))


@pytest.mark.parametrize("name", ["Gemma2ForCausalLM", "Gemma3ForCausalLM"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_constants_are_not_rounded_with_the_weights(name: str, dtype: Any, tmp_path: Path) -> None:
    """A Gemma's embeddings are scaled by the root of its width, which half precision rounds."""
    models = [named[name].build(seed).to(torch.bfloat16) for seed in (1, 2)]
    for index, model in enumerate(models):
        model.save_pretrained(tmp_path / f"{index}")
    fuse([tmp_path / "0", tmp_path / "1"], dtype=dtype).save(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").is_file()


def test_a_tower_with_a_projection_is_judged_by_what_it_projects(tmp_path: Path) -> None:
    case = next(each for each in HEADS if each.name == "CLIPTextModelWithProjection")
    assert fuse([case.build(seed).float() for seed in (1, 2)]).alignments[0].output_deviation < 1e-3
