"""Models with other epsilons, approximations of GELU, rotary positions or windows are fused with the anchor's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import LLAMA
from kept_warnings import KeptWarnings
from languages import TEXTS, gpt2, llama, saved
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM, PreTrainedModel

import transfuse
from transfuse.checkpoint.record.command import carry_call
from transfuse.cli.jobs.fuse import plan_job
from transfuse.config.job import Job
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.carrying.match import match_for_carry
from transfuse.fusion.fuse import merge

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 3000.0}
Build = Callable[..., PreTrainedModel]


def mistral(words: int, **changes: Any) -> MistralForCausalLM:
    return MistralForCausalLM(MistralConfig(**{**LLAMA, "vocab_size": words, **changes}))


CHANGES = [
    (llama, {"rms_norm_eps": 0.1}, {}),
    (llama, {"rope_parameters": LINEAR}, {}),
    (llama, {}, {"rope_parameters": LINEAR}),
    (mistral, {"sliding_window": 2}, {"sliding_window": None}),
    (gpt2, {"layer_norm_epsilon": 0.1}, {}),
    (gpt2, {"activation_function": "quick_gelu"}, {"activation_function": "gelu"}),
]


def pair(folder: Path, build: Build, own: dict[str, Any], anchors: dict[str, Any]) -> list[Path]:
    """Save an anchor and a source of other settings."""
    return [
        saved(folder / name, partial(build, **settings), seed)
        for seed, (name, settings) in enumerate([("a", anchors), ("b", own)])
    ]


def logits(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    texts = AutoTokenizer.from_pretrained(folder)(TEXTS[:4], return_tensors="pt", padding=True)
    return model.eval()(**texts).logits[texts.attention_mask == 1]


@pytest.mark.parametrize("align", ["none", "exact"])
@pytest.mark.parametrize(("build", "own", "anchors"), CHANGES)
def test_the_weights_are_fused_as_if_all_had_the_settings_of_the_anchor(
    tmp_path: Path, build: Build, own: dict[str, Any], anchors: dict[str, Any], align: str
) -> None:
    a, b = pair(tmp_path, build, own, anchors)
    with pytest.raises(SpecError, match="; --settings anchor gives all models those of the anchor"):
        transfuse.fuse([a, b], align=align)
    alike = build(len(AutoTokenizer.from_pretrained(a)), **anchors)
    alike.load_state_dict(AutoModelForCausalLM.from_pretrained(b).state_dict())
    expected = transfuse.fuse([AutoModelForCausalLM.from_pretrained(a), alike], align=align).model
    told = KeptWarnings()
    fused = transfuse.fuse([a, b], align=align, settings="anchor", progress=told).model
    (line,) = told.lines
    assert f"{next(iter(own or anchors))}" in line
    assert line.endswith(", as in the anchor")
    assert torch.equal(logits(fused, a), logits(expected, a))
    assert fused.config.to_diff_dict() == AutoModelForCausalLM.from_pretrained(a).config.to_diff_dict()


@pytest.mark.parametrize(
    ("build", "own", "field"),
    [
        (gpt2, {"activation_function": "relu"}, "activation_function"),
        (gpt2, {"scale_attn_weights": False}, "scale_attn_weights"),
        (llama, {"attention_bias": True}, "attention_bias"),
    ],
)
def test_other_differences_are_refused_as_before(tmp_path: Path, build: Build, own: dict[str, Any], field: str) -> None:
    paths = pair(tmp_path, build, own, {})
    for settings in ("same", "anchor"):
        with pytest.raises(SpecError, match=field) as found:
            transfuse.fuse(paths, settings=settings)
        assert "--settings" not in str(found.value)


@pytest.mark.parametrize(("build", "own", "anchors"), CHANGES)
def test_models_teach_and_are_measured_as_they_were(
    tmp_path: Path, build: Build, own: dict[str, Any], anchors: dict[str, Any]
) -> None:
    a, b = pair(tmp_path, build, own, anchors)
    matched = transfuse.match([a, b], TEXTS, settings="anchor", merge="learned", steps=1)
    original = AutoModelForCausalLM.from_pretrained(b)
    assert list(matched.inputs.whole) == [1]
    assert torch.equal(logits(matched.inputs.whole[1], a), logits(original, a))
    assert not torch.allclose(logits(matched.networks[1].model, a), logits(original, a), atol=1e-6)
    assert merge(matched).model.config.to_diff_dict() == AutoModelForCausalLM.from_pretrained(a).config.to_diff_dict()


def test_a_base_of_other_settings_teaches_nothing(tmp_path: Path) -> None:
    epsilons = {"a": 0.1, "b": 0.2, "base": 0.3}
    a, b, base = (saved(tmp_path / name, partial(llama, rms_norm_eps=each), 0) for name, each in epsilons.items())
    matched = transfuse.match([a, b], TEXTS, base=base, settings="anchor", align="none", merge="learned", steps=1)
    assert [model.config.rms_norm_eps for model in matched.inputs.whole.values()] == [0.2]
    assert matched.inputs.base is not None
    assert matched.inputs.base.model.config.rms_norm_eps == 0.1


def test_streamed_models_give_the_same(tmp_path: Path) -> None:
    paths = pair(tmp_path, llama, {"rope_parameters": LINEAR}, {})
    for name, stream in (("streamed", True), ("loaded", False)):
        transfuse.fuse(paths, settings="anchor", stream=stream).save(tmp_path / name)
    streamed, loaded = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("streamed", "loaded"))
    assert (logits(streamed, paths[0]) - logits(loaded, paths[0])).abs().max() < 1e-5
    with pytest.raises(ConfigError, match="--settings anchor changes models, which teach as they were"):
        transfuse.fuse(paths, TEXTS, settings="anchor", stream=True)


def test_a_plan_names_what_changes(tmp_path: Path) -> None:
    a, b = pair(tmp_path, llama, {"rms_norm_eps": 1e-5}, {})
    told = KeptWarnings()
    plan_job(Job(models=[str(a), str(b)], settings="anchor"), told)
    assert told.lines == [f"{b}: rms_norm_eps 1e-05 becomes 1e-06, as in the anchor"]


def fine_tune(folder: Path, base: Path) -> Path:
    """Save a model that differs a little from its base."""
    tuned = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.004 * torch.randn_like(parameter))
    tuned.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("data", [None, TEXTS])
def test_a_fine_tune_is_carried_to_a_base_of_other_settings(tmp_path: Path, data: list[str] | None) -> None:
    new, base = pair(tmp_path, llama, {}, {"rope_parameters": LINEAR})
    tuned = fine_tune(tmp_path / "tuned", base)
    told = KeptWarnings()
    training = {} if data is None else {"steps": 2}
    carried = transfuse.carry(base, tuned, new, data, progress=told, **training)
    assert [line for line in told.lines if "becomes" in line] == [
        f"{name}: rope_parameters.rope_type 'default' becomes 'linear', rope_parameters.rope_theta 10000.0 becomes"
        f" 3000.0, as in {new}"
        for name in (tuned, base)
    ]
    assert carried.model.config.rope_parameters == AutoModelForCausalLM.from_pretrained(new).config.rope_parameters
    assert "--settings" not in carry_call("OUT", carried.record)
    alike = saved(tmp_path / "alike", partial(llama, rope_parameters=LINEAR), 1)
    expected = transfuse.carry(alike, fine_tune_of(tuned, tmp_path / "tuned-alike", alike), new).model
    if data is None:
        assert torch.allclose(logits(carried.model, new), logits(expected, new), atol=1e-5)


def fine_tune_of(tuned: Path, folder: Path, like: Path) -> Path:
    """Save the weights of a fine-tune with the settings of another model."""
    model = AutoModelForCausalLM.from_pretrained(like)
    model.load_state_dict(AutoModelForCausalLM.from_pretrained(tuned).state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(like).save_pretrained(folder)
    return folder


def test_a_carried_fine_tune_teaches_as_it_was(tmp_path: Path) -> None:
    new, base = pair(tmp_path, llama, {}, {"rope_parameters": LINEAR})
    tuned = fine_tune(tmp_path / "tuned", base)
    matched = match_for_carry(base, tuned, new, TEXTS, steps=1)
    assert list(matched.inputs.whole) == [2]
    assert torch.equal(logits(matched.inputs.whole[2], new), logits(AutoModelForCausalLM.from_pretrained(tuned), new))
