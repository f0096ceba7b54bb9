"""Every family with one stack of blocks becomes narrower and shallower, and stays near what it computes."""

from typing import Any

import pytest
import torch
from cases import CASES, Case

from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import SpecError
from transfuse.network.families import declare
from transfuse.network.model import network
from transfuse.network.sizes import Sizes, head_size, heads_make_width, resized, sizes_of
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.blocks import why_not_removable
from transfuse.shrinking.shrink import shrunk_model
from transfuse.shrinking.start import check_changes

QUICK = make(ShrinkOptions, {"ratio": 0.5, "effort": "quick"})


def supported() -> list[Any]:
    found = []
    for case in CASES:
        try:
            sizes_of(case.configure())
        except SpecError:
            continue
        found.append(case)
    return found


def smaller(case: Case) -> Sizes:
    """About two thirds of the width, of the heads and of the hidden units."""
    config = case.configure()
    old = sizes_of(config)
    assert old.heads is not None
    assert old.hidden_size is not None
    served = old.heads // (old.kv_heads or old.heads)
    heads = max(served, old.heads * 2 // 3 // served * served)
    width = heads * head_size(config) if heads_make_width(config) else old.hidden_size * 2 // 3
    experts = any("experts" in name for name in case.sizes)
    units = None if experts or old.intermediate_size is None else old.intermediate_size * 2 // 3
    return Sizes(width, None, units, heads, None)


REFUSED = (
    "DebertaV2ForMaskedLM-share_att_key",
    "FalconForCausalLM-alibi",
    "BloomForCausalLM",
)  # a table of distances, slopes of heads


@pytest.mark.parametrize("case", supported(), ids=lambda case: case.name)
def test_every_family_becomes_smaller(case: Case) -> None:
    model = case.build(1)
    wanted = smaller(case)
    depth = sizes_of(model.config).layers
    if depth == 2 and why_not_removable(model, depth) is None and not case.name.startswith("Deberta"):
        wanted = Sizes(**(wanted.given() | {"layers": 1}))
    sizes = target_sizes(model.config, wanted)
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(20)]
    if case.name.startswith(REFUSED):
        small_config = resized(model.config, sizes)
        with pytest.raises(SpecError):
            check_changes(*(declare(config, type(model).__name__) for config in (model.config, small_config)))
        return
    small, facts = shrunk_model(network(model, torch.device("cpu")), sizes, batches, QUICK, silent, Stopwatch())
    assert sizes_of(small.config).given() == sizes.given()
    assert small.num_parameters() < model.num_parameters()
    assert len(facts["blocks"]) == sizes.layers
    if not case.architecture.__name__.endswith("Model"):
        expected = case.logits(model)
        found = case.logits(small)
        assert found.shape == expected.shape
        assert (found - expected).square().mean() < 1.5 * expected.var()


def test_embeddings_of_the_width_of_the_stream_follow_it() -> None:
    case = next(case for case in CASES if case.name == "ElectraForMaskedLM")
    model = case.build(1, embedding_size=case.configure().hidden_size)
    width = model.config.hidden_size * 2 // 3
    sizes = target_sizes(model.config, Sizes(hidden_size=width))
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(5)]
    small, _ = shrunk_model(network(model, torch.device("cpu")), sizes, batches, QUICK, silent, Stopwatch())
    assert (small.config.hidden_size, small.config.embedding_size) == (width, width)


def test_a_layer_may_read_nothing_but_zeros() -> None:
    case = next(case for case in CASES if case.name == "LlamaForCausalLM")
    model = case.build(1)
    torch.nn.init.zeros_(model.model.layers[0].mlp.up_proj.weight)
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(20)]
    sizes = target_sizes(model.config, Sizes(intermediate_size=20))
    small, _ = shrunk_model(network(model, torch.device("cpu")), sizes, batches, QUICK, silent, Stopwatch())
    assert small.model.layers[0].mlp.down_proj.weight.isfinite().all()
