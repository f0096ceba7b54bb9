"""Models with fewer blocks than the anchor keep their function, and are fused into its shape."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from kept_warnings import KeptWarnings
from languages import TEXTS, gpt2, llama, saved
from transformers import PreTrainedModel

import transfuse
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.block_order import best_places, evenly_spaced
from transfuse.fusion.sizes.changes import depth
from transfuse.fusion.sizes.idle_blocks import with_idle_blocks
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.fusion.sizes.stream_similarity import stream_similarity

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
FIXED = ("Albert", "DebertaV2", "Esm")  # one block, which runs several times; shared distances; a head on all blocks
DEEP = [case for case in CASES if depth(case.build(0).config) and not case.name.startswith(FIXED)]


def build(case: Case, seed: int, layers: int) -> PreTrainedModel:
    name = next(name for name in LAYERS if name in case.sizes)
    pattern = {"attention_types": [[["global"], layers]]} if "attention_types" in case.sizes else {}
    return case.build(seed, **{name: layers}, **pattern)


@pytest.mark.parametrize("case", DEEP, ids=lambda case: case.name)
def test_idle_blocks_change_nothing(case: Case) -> None:
    model = case.build(1)
    own = depth(model.config)
    assert own
    reference = case.logits(model)
    places = [0, *(2 * block + 1 for block in range(1, own))]
    deeper = with_idle_blocks(model, 2 * own + 2, places)
    assert depth(deeper.config) == 2 * own + 2
    assert (case.logits(deeper) - reference).abs().max() < 1e-4 * reference.abs().max()


def test_a_block_that_cannot_be_put_in_between_is_refused() -> None:
    """DeBERTa convolves behind its first block, and not behind others."""
    case = next(case for case in CASES if case.name == "DebertaV2ForMaskedLM")
    with pytest.raises(ConfigError, match="computes something else; give models of equal sizes"):
        with_anchor_sizes([build(case, 1, 4), build(case, 2, 2)], ["a", "b"])


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM", "ViTForImageClassification"])
def test_places_are_found_by_streams(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    model = build(case, 1, 3)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # gains that differ
            parameter.data *= torch.linspace(0.5, 2.0, len(parameter)).to(parameter)
    for places in ([0, 1, 2], [0, 2, 5], [0, 3, 4]):
        deeper = with_idle_blocks(model, 6, places)
        assert best_places(stream_similarity(deeper, model, case.inputs(model.config))) == places


def test_streams_in_half_precision_are_compared() -> None:
    """BEiT does not convert pixels to the precision of its weights."""
    case = next(case for case in CASES if case.name.startswith("BeitForImageClassification"))
    deep, shallow = (case.build(1, num_hidden_layers=layers).to(torch.bfloat16) for layers in (4, 2))
    batch = {key: values.float() for key, values in case.inputs(deep.config).items()}
    assert stream_similarity(deep, shallow, batch).isfinite().all()


def test_places_have_the_largest_sum_of_similarities() -> None:
    similarity = torch.tensor([[0.0, 9.0, 0.0, 0.0], [0.0, 1.0, 3.0, 2.0], [9.0, 9.0, 9.0, 1.0]])
    assert best_places(similarity) == [0, 1, 2]
    assert best_places(evenly_spaced(3, 7)) == [0, 2, 4]
    assert best_places(evenly_spaced(2, 3)) == [0, 1]


def fused(models: Sequence[PreTrainedModel], **options: object) -> PreTrainedModel:
    return transfuse.fuse(models, device="cpu", **options).model


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "BertForMaskedLM", "ViTForImageClassification", "MixtralForCausalLM"]
)
def test_a_deeper_copy_recovers_the_function(name: str) -> None:
    """Blocks that do nothing stand at the same places in both, evenly spaced."""
    case = next(case for case in CASES if case.name == name)
    model = build(case, 1, 2)
    result = fused([with_idle_blocks(model, 4, [0, 2]), model])
    reference = case.logits(model)
    assert (case.logits(result) - reference).abs().max() < 1e-3 * reference.abs().max()
    assert depth(result.config) == 4


def test_models_in_training_mode_are_compared_without_dropout() -> None:
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    anchor, source = (case.build(1, num_hidden_layers=layers, hidden_dropout_prob=0.5) for layers in (4, 2))
    deeper = with_anchor_sizes([anchor.train(), source.train()], ["a", "b"])[1]
    assert anchor.training
    assert source.training
    reference = case.logits(source.eval())
    assert (case.logits(deeper) - reference).abs().max() < 1e-4 * reference.abs().max()


def test_blocks_of_one_kind_belong_together() -> None:
    """Attention to a window and to all tokens alternate."""
    case = next(case for case in CASES if case.name == "Gemma2ForCausalLM")
    anchor, source = build(case, 1, 6), build(case, 2, 3)
    deeper = with_anchor_sizes([anchor, source], ["a", "b"])[1]
    assert deeper.config.layer_types == anchor.config.layer_types
    reference = case.logits(source)
    assert (case.logits(deeper) - reference).abs().max() < 1e-4 * reference.abs().max()
    source.config.layer_types = ["full_attention"] * 3
    with pytest.raises(ConfigError, match=r"b: has 3 blocks, the anchor has 6, and no places in order .* layer_types"):
        with_anchor_sizes([anchor, source], ["a", "b"])


def test_what_has_more_blocks_than_the_anchor_says_what_to_do() -> None:
    case = next(case for case in CASES if case.name == "LlamaForCausalLM")
    with pytest.raises(ConfigError, match=r"model 2: has 3 blocks, the anchor has 2; give --data, .* or put it first"):
        fused([build(case, 1, 2), build(case, 2, 3)])
    albert = next(case for case in CASES if case.name == "AlbertForMaskedLM")
    with pytest.raises((ConfigError, SpecError)):
        fused([build(albert, 1, 3), build(albert, 2, 2)])


@pytest.mark.parametrize("options", [{"merge": "least-squares"}, {"steps": 3, "merge": "learned"}, {"merge": "mean"}])
def test_texts_and_checkpoints(tmp_path: Path, options: dict[str, object]) -> None:
    models = [saved(tmp_path / "deep", partial(gpt2, n_layer=3), 1), saved(tmp_path / "shallow", gpt2, 2)]
    told = KeptWarnings()
    fusion = transfuse.fuse(models, TEXTS, device="cpu", progress=told, **options)
    assert len(told.lines) == 1
    assert "has 2 blocks, the anchor has 3; its blocks take the places" in told.lines[0]
    out = fusion.save(tmp_path / "out")
    assert type(fusion.model).from_pretrained(out).config.n_layer == 3
    assert [model["path"] for model in fusion.record["models"]] == [str(path) for path in models]
    assert fusion.record["models"][1]["sha256"].keys() == {"config.json", "model.safetensors"}
    with pytest.raises(ConfigError, match="their sizes differ"):
        transfuse.fuse(models, stream=True)


def test_models_of_other_kinds_are_refused_as_before() -> None:
    with pytest.raises((ConfigError, SpecError)):
        fused([llama(30), gpt2(30)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM", "Qwen2ForCausalLM"])
def test_half_precision_keeps_what_is_not_stored(name: str, dtype: torch.dtype) -> None:
    """Rotary frequencies stay in the precision in which they were loaded."""
    case = next(case for case in CASES if case.name == name)
    model = build(case, 1, 2).float()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    deeper = with_anchor_sizes([build(case, 2, 4), model], ["a", "b"])[1]
    assert {parameter.dtype for parameter in deeper.parameters()} == {dtype}
    buffers = dict(model.named_buffers())
    for key, values in deeper.named_buffers():
        assert key not in buffers or torch.equal(values, buffers[key])


def test_a_cache_tells_places_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [saved(tmp_path / "deep", partial(llama, num_hidden_layers=4), 1), saved(tmp_path / "shallow", llama, 2)]

    def at(place: int, **cache: Path) -> dict[str, torch.Tensor]:
        places = torch.zeros(2, 4, dtype=torch.float64)
        places[0, 0] = places[1, place] = 1
        monkeypatch.setattr(SizeSamples, "similarity", lambda *models: places)
        fusion = transfuse.fuse(models, TEXTS, device="cpu", merge="mean", match_on="weights", **cache)
        assert f"places 0, {place} (from 0)" in fusion.record["resized"][0]
        return fusion.model.state_dict()

    first, other = at(3, cache=tmp_path / "cache"), at(1, cache=tmp_path / "cache")
    for name, values in at(1).items():
        assert torch.equal(values, other[name]), name
    assert any(not torch.equal(values, other[name]) for name, values in first.items())


def test_blocks_that_depend_on_their_number_stay() -> None:
    case = next(case for case in CASES if case.name == "GPT2LMHeadModel")
    anchor, source = build(case, 1, 3), build(case, 2, 2)
    source.config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(ConfigError, match=r"b: has 2 blocks, .* put between its own: scale_attn_by_inverse_layer_idx"):
        with_anchor_sizes([anchor, source], ["a", "b"])
