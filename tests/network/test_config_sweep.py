"""Every field of every family's configuration is changed in turn; whatever changes an answer is not fused.

A field that a later version of transformers adds fails here if it changes answers and nobody compares it.
"""

import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from cases import CASES, HEADS, Case
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.errors import SpecError
from transfuse.network.compatible import check_same_function, check_same_layers
from transfuse.network.families import declare
from transfuse.network.field_roles import (
    BOOKKEEPING,
    REDUNDANT,
    SIZES,
    TRAINING,
    UNDECLARED_HEADS,
    known_fields,
)
from transfuse.network.inputs import mask_noise
from transfuse.network.layout import unfused
from transfuse.network.outputs import model_output
from transfuse.network.rotary_fields import COMMON_KEYS
from transfuse.network.token_ids import TOKEN_IDS

MODELS = [
    *CASES,
    *(each for each in HEADS if "ForSequence" in each.name or each.name.startswith(("CLIP", "Siglip", "T5"))),
]
FAMILIES = sorted({case.configure().model_type for case in MODELS})
FORM = ("return_dict", "model_type", "transformers_version", "id2label", "label2id", "architectures", "dtype")
PATTERNS = (["sliding_attention"] * 2, ["full_attention"] * 2)
WORDS = ("relu", "tanh", "gated-relu", "mean", "cls")  # activations and ways to pool
SHARED = ("modeling_layers", "masking_utils", "modeling_rope_utils", "integrations.sdpa_attention")
READS = re.compile(r"config\.(\w+)|getattr\((?:self\.)?config, \"(\w+)\"")
PREDICTED = (
    "logits_mup_width_multiplier",
    "unpadded_vocab_size",
    "mtp_hidden_states_first",
    "chain_hidden_post_norm",
    "num_mtp_layers",
)  # of models that predict several tokens at once


def words(config: PreTrainedConfig, architecture: str) -> dict[str, Tensor]:
    """Texts with padding, ends and beginnings inside, longer than any window; or pixels; or both."""
    generator = torch.Generator().manual_seed(3)
    text, vision = (getattr(config, f"{kind}_config", config) for kind in ("text", "vision"))
    found = {}
    if hasattr(vision, "image_size"):
        shape = (2, vision.num_channels, vision.image_size, vision.image_size)
        found["pixel_values"] = torch.randn(shape, generator=generator).double()
    if hasattr(vision, "mask_ratio"):
        found["noise"] = mask_noise(vision, 2, generator)
    if hasattr(config, "num_mel_bins"):
        found["input_features"] = torch.randn(
            2, config.num_mel_bins, 2 * config.max_source_positions, generator=generator
        ).double()
        found["decoder_input_ids"] = torch.randint(3, config.vocab_size, (2, 12), generator=generator)
    elif hasattr(text, "vocab_size") and not hasattr(config, "image_size") and "ForImage" not in architecture:
        ids = torch.randint(3, text.vocab_size, (2, 12), generator=generator)
        if architecture == "T5ForSequenceClassification":  # it demands as many ends in every text
            ids[:, 8], ids[:, 11] = 2, 1
        else:
            ids[:, 4], ids[:, 6], ids[:, 9], ids[1, 10:] = 1, 2, 1, 0
        found |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if config.is_encoder_decoder and "Classification" not in architecture:
            found["decoder_input_ids"] = ids.flip(0)
    return found


def others(name: str, value: object) -> list[Any]:
    """Plausible other values of a field."""
    if isinstance(value, bool):
        return [not value]
    if TOKEN_IDS.fullmatch(name):
        return [token for token in (0, 1, 2) if token != value]
    if isinstance(value, int):
        return [value + 1, 2 * value]
    if isinstance(value, float):
        return [3 * value + 0.37]
    if isinstance(value, str):
        return [word for word in WORDS if word != value]
    if isinstance(value, list):
        return [*PATTERNS] if value and isinstance(value[0], str) else [[0]]
    return [True, 3, 0.7] if value is None else []


def changes(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A field's path, and arguments of the configuration with another value there."""
    for name, value in config.items():
        if name in FORM:
            continue
        if isinstance(value, dict):
            for path, inner in changes(value, value if name == "rope_parameters" else sizes.get(name, {})):
                yield f"{name}.{path}", {**sizes, name: inner}
        else:
            for other in others(name, value):
                yield name, {**sizes, name: other}


def refused(ours: PreTrainedConfig, theirs: PreTrainedConfig, architecture: str) -> bool:
    """Whether a check says no, or the declarations give units of other numbers, which the alignments judge."""
    try:
        check_same_function(ours, theirs, architecture=architecture)
        check_same_layers(ours, theirs, architecture)
    except SpecError:
        return True
    specs = [unfused(declare(config, architecture)) for config in (ours, theirs)]
    units = [{name: space.units for name, space in spec.spaces().items()} for spec in specs]
    return units[0] != units[1]


@torch.no_grad()
def missed(case: Case) -> list[str]:
    """Fields that change the answers of a model and are not refused."""
    base, architecture, found = case.configure(), case.architecture.__name__, []
    model = case.build()
    state, inputs = model.state_dict(), words(base, architecture)
    expected = model_output(model, inputs)
    for path, arguments in changes(base.to_dict(), case.sizes):
        try:
            config = case.config(**copy.deepcopy(arguments))
            other = case.architecture(config).double().eval()
            other.load_state_dict(state)
        except Exception:  # no such configuration, or weights of other shapes
            continue
        try:
            given = model_output(other, inputs)
            same = given.shape == expected.shape and bool((given - expected).abs().max() < 1e-6 * expected.abs().max())
        except Exception:
            same = False
        if not same and not (refused(base, config, architecture) and refused(config, base, architecture)):
            found.append(path)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_that_change_answers_are_refused(family):
    cases = [case for case in MODELS if case.configure().model_type == family]
    assert {case.name: fields for case in cases if (fields := missed(case))} == {}


def read(file: str, shared: bool) -> set[str]:
    """The fields that code reads of its configuration; of code that families share, those it has to ask for."""
    with open(file, encoding="utf-8") as stream:
        return {asked or named for named, asked in READS.findall(stream.read()) if asked or not shared}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_fields_that_the_code_reads_are_accounted_for(family):
    """Each is one that the class is known to have, so that it counts, or has a reason not to."""
    case = next(case for case in [*CASES, *HEADS] if case.configure().model_type == family)
    beside = vars(import_module(case.config.__module__)).values()  # a file may hold models of several configurations
    configs = [each() for each in beside if isinstance(each, type) and issubclass(each, PreTrainedConfig)]
    names = read(inspect.getfile(case.architecture), False).union(
        *(read(import_module(f"transformers.{each}").__file__, True) for each in SHARED)
    )
    excused = {*SIZES, *BOOKKEEPING, *REDUNDANT, *PREDICTED, "json", *COMMON_KEYS}
    left = {
        name
        for name in names.difference(excused, *map(known_fields, configs))
        if not any(pattern.fullmatch(name) for pattern in (TRAINING, UNDECLARED_HEADS, TOKEN_IDS))
        and not any(hasattr(type(each), name) for each in configs)
    }
    assert left == set()
