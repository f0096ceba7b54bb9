"""Classes that no family declares are merged as they are, without alignment, and take nothing that needs one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from cases import CASES, HEADS, Case
from kept_warnings import KeptWarnings
from languages import END, saved
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import transfuse
from transfuse.errors import ConfigError, SpecError
from transfuse.network.families import is_declared
from transfuse.network.families.undeclared import take_undeclared

BLOCKS = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 37}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MOE = BLOCKS | IDS | {"num_key_value_heads": 3, "num_experts": 3, "num_experts_per_tok": 2, "vocab_size": 31,
                      "moe_intermediate_size": 13, "shared_expert_intermediate_size": 11}  # fmt: skip
SOUND = {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_labels": 3}  # fmt: skip
SWIN = {"image_size": 16, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "num_labels": 3}
CLASSES: dict[str, dict[str, Any]] = {
    "Qwen2MoeForCausalLM": MOE,
    "MambaForCausalLM": IDS | {"hidden_size": 24, "num_hidden_layers": 1, "vocab_size": 31, "state_size": 4},
    "SwinForImageClassification": SWIN,
    "Wav2Vec2ForSequenceClassification": BLOCKS | SOUND,  # which takes sound
    "ResNetForImageClassification": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 3},
}


def build(name: str, seed: int, **changes: Any) -> PreTrainedModel:
    """A base, and fine-tunes of it if the seed is not 0."""
    architecture = getattr(transformers, name)
    torch.manual_seed(0)
    model: PreTrainedModel = architecture(architecture.config_class(**{**CLASSES[name], **changes})).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.002 * seed * torch.randn_like(parameter))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("num_batches_tracked"):
            buffer.fill_(10 * seed + 1)
    return model


def assert_is(model: PreTrainedModel, expected: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == expected.keys()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", CLASSES)
def test_the_mean_is_that_of_all_weights(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / str(seed) for seed in (1, 2)]
    models = [build(name, seed) for seed in (1, 2)]
    for model, folder in zip(models, folders, strict=True):
        model.save_pretrained(folder)
    first, second = (model.state_dict() for model in models)
    expected = {
        each: (values + second[each]) / 2 if values.is_floating_point() else values for each, values in first.items()
    }
    for stream in (False, True):
        fusion = transfuse.fuse(folders, align="none", stream=stream)
        fusion.save(tmp_path / f"out-{stream}")
        found = getattr(transformers, name).from_pretrained(tmp_path / f"out-{stream}")
        assert_is(found, expected)


@pytest.mark.parametrize("name", CLASSES)
def test_differences_from_a_base_are_added(name: str) -> None:
    base, tuned, other = (build(name, seed) for seed in (0, 1, 2))
    fused = transfuse.fuse([tuned, other], base=base, merge="task-arithmetic", task_scale=0.5).model
    states = [model.state_dict() for model in (base, tuned, other)]
    expected = {
        each: start + 0.5 * (one - start + two - start) if start.is_floating_point() else one
        for each, start, one, two in ((each, *(state[each] for state in states)) for each in states[0])
    }
    assert_is(fused, expected)


def test_a_new_head_is_no_stranger() -> None:
    base, tuned, other = (build("SwinForImageClassification", seed) for seed in (0, 1, 2))
    torch.nn.init.normal_(tuned.classifier.weight)
    fused = transfuse.fuse([tuned, other], base=base, merge="task-arithmetic").model
    expected = tuned.classifier.weight + other.classifier.weight - base.classifier.weight
    torch.testing.assert_close(fused.classifier.weight, expected)


def test_a_stranger_to_the_base_is_refused() -> None:
    base, tuned = (build("SwinForImageClassification", seed) for seed in (0, 1))
    torch.manual_seed(9)
    stranger = type(base)(base.config)
    with pytest.raises(ConfigError, match="was not fine-tuned from the base"):
        transfuse.fuse([tuned, stranger], base=base, merge="ties")


def test_a_stranger_without_a_base_is_told() -> None:
    tuned, other = (build("SwinForImageClassification", seed) for seed in (1, 2))
    torch.manual_seed(9)
    stranger, told = type(tuned)(tuned.config), KeptWarnings()
    transfuse.fuse([tuned, other], align="none", progress=told)
    assert told.lines == []
    transfuse.fuse([tuned, other, stranger], align="none", progress=told)
    assert told.lines == [
        "model 3: its weights do not correlate with those of model 1, so the mean of both may be noise"
    ]


def test_variants_that_a_declaration_refuses_are_taken() -> None:
    """Layers of linear attention, which the released Qwen3-Next has."""
    sizes = MOE | {"layer_types": ["linear_attention"], "head_dim": 8, "linear_num_key_heads": 2,
                   "linear_num_value_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 4}  # fmt: skip
    base = transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(**sizes))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1.01)
    fused = transfuse.fuse([tuned, tuned], base=base, merge="task-arithmetic", weights=(0.5, 0.5)).model
    assert_is(fused, tuned.state_dict())
    with pytest.raises(SpecError, match="have linear_attention"):
        transfuse.fuse([tuned, tuned])


def test_layers_that_a_declaration_lacks_are_averaged() -> None:
    config = transformers.GPT2Config(n_embd=24, n_layer=1, n_head=3, vocab_size=31, add_cross_attention=True)
    one = transformers.GPT2LMHeadModel(config)
    other = copy.deepcopy(one)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    fused = transfuse.fuse([one, other], align="none").model
    name = "transformer.h.0.crossattention.c_attn.weight"
    torch.testing.assert_close(fused.state_dict()[name], 1.005 * one.state_dict()[name])


@pytest.mark.parametrize("case", [*CASES, *HEADS], ids=lambda case: case.name)
def test_declared_classes_stay_declared(case: Case) -> None:
    name = case.architecture.__name__
    take_undeclared(name, True)
    try:
        assert is_declared(case.configure(), name)
    finally:
        take_undeclared(name, False)


def test_other_settings_are_refused() -> None:
    models = [build("Qwen2MoeForCausalLM", 1), build("Qwen2MoeForCausalLM", 2, rms_norm_eps=1e-3)]
    with pytest.raises(SpecError, match=r"rms_norm_eps is 0.001, the anchor's is"):
        transfuse.fuse(models, align="none")


@pytest.mark.parametrize("merge", ["least-squares", "learned"])
def test_layers_are_neither_fitted_nor_trained(merge: str) -> None:
    models = [build("Qwen2MoeForCausalLM", seed) for seed in (1, 2)]
    with pytest.raises(ConfigError, match="merge: Qwen2MoeForCausalLM has no declaration, so its layers"):
        transfuse.fuse(models, ["a text"], align="none", merge=merge)


def test_what_was_allowed_without_alignment_is_refused_with_one() -> None:
    models = [build("Qwen2MoeForCausalLM", seed) for seed in (1, 2)]
    transfuse.fuse(models, align="none")
    for options in ({}, {"align": "flow"}):
        with pytest.raises(SpecError, match=r"is not supported; .* without alignment \(--align none\)"):
            transfuse.fuse(models, **options)
    with pytest.raises(SpecError, match="is not supported"):
        transfuse.fuse(models, base=build("Qwen2MoeForCausalLM", 0), align="exact", merge="ties")
    transfuse.fuse(models, align="none")
    with pytest.raises(SpecError, match="is not supported"):
        transfuse.shrink(models[0], ["a text"], processor=object(), intermediate_size=9)
    transfuse.fuse(models, align="none")
    with pytest.raises(SpecError, match="is not supported"):
        transfuse.check_declaration(models[0])


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    def make(words: int) -> PreTrainedModel:
        return build("Qwen2MoeForCausalLM", 1, vocab_size=words)

    folders = [saved(tmp_path / str(seed), make, seed) for seed in (1, 2)]
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(["other words"] * 9, 270, special_tokens=[END], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, eos_token=END, pad_token=END).save_pretrained(folders[1])
    with pytest.raises(ConfigError, match="vocab: Qwen2MoeForCausalLM has no declaration"):
        transfuse.fuse(folders, align="none", vocab="shared")
