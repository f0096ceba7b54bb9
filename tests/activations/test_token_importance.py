"""Token importance: classes are drawn on the device, with the probabilities that the model gives them."""

import pytest
import torch
from cases import CASES

from transfuse.activations.token_importance import token_importance
from transfuse.base import draw
from transfuse.base.batch import cast
from transfuse.network.model import declaration
from transfuse.network.output_losses import SOFTMAX


def test_classes_are_drawn_with_their_probabilities(monkeypatch):
    monkeypatch.setattr(draw, "MAX_SLICE", 4000)  # several slices
    probabilities = torch.tensor([0.1, 0.2, 0.0, 0.7])
    scores = probabilities.log().expand(100_000, 4)
    drawn = probabilities - SOFTMAX.drawn_gradients(scores, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.round().sum(1), torch.ones(100_000))
    assert (drawn.mean(0) - probabilities).abs().max() < 0.01
    assert drawn[:, 2].abs().max() == 0


def test_the_same_seed_draws_the_same_classes():
    scores = torch.randn(50, 30)
    first, second = (SOFTMAX.drawn_gradients(scores, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("samples", [1, 3, 4], ids="{} samples".format)
@pytest.mark.parametrize("name", ["DebertaV2ForMaskedLM-share_att_key", "DebertaV2ForMaskedLM"])
def test_rows_that_all_samples_share_have_no_positions(name, samples):
    """DeBERTa projects its embeddings of distances, as many as 3 or 4 samples have tokens or not."""
    case = next(case for case in CASES if case.name == name)
    model = case.build(1)
    linears = [linear for linear in declaration(model).linears() if linear.part == "attention"]
    batch = {key: values[:samples] for key, values in cast(case.inputs(model.config, 0), model.dtype).items()}
    found = token_importance([model], linears, [batch])
    assert found.keys() == {linear.name for linear in linears if "pos_" not in linear.name}
    assert {len(weights) for weights in found.values()} == {batch["input_ids"].shape[1]}
