"""Shrinking undoes what made a model larger at the same function: units twice, a turned stream, idle blocks."""

from collections.abc import Sequence

import pytest
import torch
from cases import CASES, DECODER_WIDTHS, Case
from comparisons import close
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.transform import transform_all
from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, network, with_tensors
from transfuse.network.sizes import Sizes, sizes_of
from transfuse.network.space import Group
from transfuse.network.symmetry import fold, symmetric
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.maps import Truncation, centered_basis, truncation, with_ones
from transfuse.shrinking.shrink import shrunk_model
from transfuse.transport.maps import Map, Matrix, from_plan

CPU = torch.device("cpu")
QUICK = make(ShrinkOptions, {"ratio": 0.5, "effort": "quick"})
FAMILIES = (
    "ViTForImageClassification",
    "BertForMaskedLM-tie_word_embeddings",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "GPT2LMHeadModel-tie_word_embeddings",
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "GPTNeoXForCausalLM",
    "ModernBertForMaskedLM-tie_word_embeddings",
)
by_name = {case.name: case for case in CASES}
WIDENED = [by_name[name] for name in FAMILIES]
PRE_NORM = [case for case in WIDENED if not case.name.startswith(("Bert", "Modern"))]


def batches(case: Case) -> list[dict[str, Tensor]]:
    return [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(40)]


def shrunk(case: Case, large: PreTrainedModel, wanted: Sizes) -> PreTrainedModel:
    sizes = target_sizes(large.config, wanted)
    return shrunk_model(network(large, CPU), sizes, batches(case), QUICK, silent, Stopwatch())[0]


def turned(narrow: int, wide: int, centered: bool) -> Truncation:
    """Puts a stream into a wider one, in random directions."""
    generator = torch.Generator().manual_seed(3)
    basis = centered_basis(wide) if centered else torch.eye(wide, dtype=torch.float64)
    random = torch.randn(basis.shape[1], narrow - centered, generator=generator, dtype=torch.float64)
    directions = basis @ torch.linalg.qr(random)[0]
    back = truncation(with_ones(directions) if centered else directions)
    return Truncation(back.backward.T, back.forward.T)


def widened(case: Case, turns: bool) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model, and the same function with every width doubled: units twice, and the stream turned or twice."""
    model = case.build(1)
    wide = case.build(1, **(case.doubled() or {name: 2 * case.sizes[name] for name in DECODER_WIDTHS}))
    spec, target = (symmetric(unfused(declaration(each))) for each in (model, wide))
    tensors = fold(spec, network(model, CPU).tensors)
    generator = torch.Generator().manual_seed(0)
    maps: dict[str, Map] = {}
    for name, space in spec.spaces().items():
        units = target.spaces()[name].units
        if units == space.units:
            continue
        if turns and space.group in (Group.CENTERED, Group.ORTHOGONAL):
            maps[name] = turned(space.units, units, space.group is Group.CENTERED)
            continue
        twice = torch.randperm(units, generator=generator) % space.units
        maps[name] = from_plan(torch.nn.functional.one_hot(twice, space.units).T.double() / units)
    if case.name.startswith("Olmo"):  # norms ignore what all writers are multiplied by, but a tied matrix also reads
        stream = maps["stream"]
        assert isinstance(stream, Matrix)
        maps["stream"] = Matrix(stream.forward / 2, stream.backward)
    carried = dict(transform_all(spec, tensors, maps))
    if case.name.startswith("Gemma"):  # the root of the width multiplies words
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            carried[name] = carried[name] / 2**0.5
        carried["model.norm.weight"] = carried["model.norm.weight"] * 2**0.5
    return model, with_tensors(wide, carried)


@pytest.mark.parametrize("turns", [True, False], ids=["turned", "twice"])
@pytest.mark.parametrize("case", WIDENED, ids=lambda case: case.name)
def test_what_was_widened_comes_back(case: Case, turns: bool) -> None:
    model, wide = widened(case, turns)
    reference = case.logits(model)
    assert close(case.logits(wide), reference, 1e-5), "the test itself must widen exactly"
    small = shrunk(case, wide, sizes_of(model.config))
    assert small.num_parameters() == model.num_parameters()
    assert close(case.logits(small), reference, 1e-3 if case.name.startswith("Modern") else 1e-4)


@pytest.mark.parametrize("turns", [True, False], ids=["turned", "twice"])
@pytest.mark.parametrize(
    "name", ["GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "OlmoForCausalLM-attention_bias"]
)
def test_a_width_that_enters_the_function(name: str, turns: bool) -> None:
    case = by_name[name]
    model, wide = widened(case, turns)
    reference = case.logits(model)
    tolerance = 1e-3 if name.startswith("Olmo") else 1e-5  # what its norms add to the variance is not scaled
    assert close(case.logits(wide), reference, tolerance), "the test itself must widen exactly"
    assert close(case.logits(shrunk(case, wide, sizes_of(model.config))), reference, max(tolerance, 1e-4))


def with_idle_blocks(case: Case, places: Sequence[int]) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model, and one with blocks between its own that write nothing."""
    model = case.build(1)
    depth = sizes_of(model.config).layers
    assert depth
    name = next(name for name in ("n_layer", "num_hidden_layers") if name in case.sizes)
    deep = case.build(2, **{name: depth + len(places)})
    stack = next(key for key in deep.state_dict() if ".1." in key).partition(".1.")[0]
    own = iter(range(depth))
    tensors = dict(deep.state_dict())
    for block in range(depth + len(places)):
        source = None if block in places else next(own)
        for key in [key for key in tensors if key.startswith(f"{stack}.{block}.")]:
            tail = key.removeprefix(f"{stack}.{block}.")
            if source is not None:
                tensors[key] = model.state_dict()[f"{stack}.{source}.{tail}"]
            elif any(word in key for word in ("o_proj", "c_proj", "down_proj", "fc2", "dense.", "4h_to_h", "Wo.")):
                tensors[key] = torch.zeros_like(tensors[key])
    tensors |= {key: values for key, values in model.state_dict().items() if not key.startswith(f"{stack}.")}
    deep.load_state_dict(tensors)
    return model, deep


@pytest.mark.parametrize("places", [(1,), (0, 2)], ids=["between", "two"])
@pytest.mark.parametrize("case", PRE_NORM, ids=lambda case: case.name)
def test_blocks_without_effect_are_removed(case: Case, places: tuple[int, ...]) -> None:
    model, deep = with_idle_blocks(case, places)
    reference = case.logits(model)
    assert close(case.logits(deep), reference, 1e-9)
    small = shrunk(case, deep, Sizes(layers=sizes_of(model.config).layers))
    assert close(case.logits(small), reference, 1e-9)


def test_a_tied_matrix_keeps_its_gains_in_a_turned_stream() -> None:
    """Behind RMSNorm, exactly. Any other directions of the same span would mix the gains."""
    case = next(case for case in CASES if case.name.startswith("LlamaForCausalLM-attention_bias"))
    model, wide = widened(case, turns=False)
    assert close(case.logits(shrunk(case, wide, sizes_of(model.config))), case.logits(model), 1e-5)
