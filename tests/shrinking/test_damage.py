"""Damage is measured by the loss that belongs to what a model predicts."""

import pytest
import torch
from cases import CASES, Case
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import cast
from transfuse.network.outputs import predict
from transfuse.shrinking.damage import Damage

BERT = next(case for case in CASES if case.name == "BertForSequenceClassification")


def batches(case: Case) -> list[dict[str, Tensor]]:
    return [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(5)]


def other(model: PreTrainedModel, shift: float) -> PreTrainedModel:
    """The same model with all logits shifted."""
    changed = type(model)(model.config).double().eval()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        changed.classifier.bias.add_(shift)
    return changed


def test_a_model_of_one_number() -> None:
    model = BERT.build(1, num_labels=1)
    assert Damage(model, batches(BERT)).of(other(model, 0.5)) == pytest.approx(0.25, rel=1e-4)


def test_labels_of_their_own_have_no_common_shift() -> None:
    model = BERT.build(1, num_labels=3, problem_type="multi_label_classification")
    damage = Damage(model, batches(BERT))
    assert damage.of(model) == 0
    assert damage.of(other(model, 0.5)) > 0.001


def test_classes_diverge() -> None:
    model, changed = BERT.build(1), BERT.build(2)
    damage = Damage(model, batches(BERT))
    assert damage.of(other(model, 0.5)) == pytest.approx(0, abs=1e-6)
    expected = []
    for batch in batches(BERT):
        whole, found = (predict(each, batch).log_softmax(-1) for each in (model, changed))
        expected.append((whole.exp() * (whole - found)).sum(-1))
    assert damage.of(changed) == pytest.approx(float(torch.cat(expected).mean()), rel=1e-4)
