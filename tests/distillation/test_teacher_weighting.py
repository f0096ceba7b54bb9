"""Whom to believe about a sample."""

from dataclasses import replace

import pytest
import torch
from cases import CASES

from transfuse.base.batch import IGNORED_LABEL, sample_indices
from transfuse.distillation.teacher_weighting import (
    TEACHER_WEIGHTING,
    TeacherOutputs,
    ensemble_predictions,
    teacher_weights,
)
from transfuse.network.outputs import predict

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("how", TEACHER_WEIGHTING)
def test_shares_of_every_sample_sum_to_one(how):
    for name in ("ViTForImageClassification", "BertForMaskedLM"):
        case = BY_NAME[name]
        models = [case.build(seed).float() for seed in (1, 2)]
        batch = case.inputs(models[0].config)
        labels = torch.zeros(2, dtype=torch.long)
        if "input_ids" in batch:
            labels = torch.full(batch["input_ids"].shape, IGNORED_LABEL)
            labels[0, 1:3] = labels[1, 4] = 1
        batch = batch | {"labels": labels}
        shares = teacher_weights(TEACHER_WEIGHTING[how], models, [0.5, 0.5], batch)
        assert shares.shape == (2, 2)
        torch.testing.assert_close(shares.sum(0), torch.ones(2))
        said = ensemble_predictions(TEACHER_WEIGHTING[how], models, [0.5, 0.5], batch)
        torch.testing.assert_close(said.sum(1), torch.ones(len(said)))


def test_who_is_sure_is_believed_and_who_is_right():
    case = BY_NAME["ViTForImageClassification"]
    doubtful, sure = case.build(1).float(), case.build(1).float()
    with torch.no_grad():
        doubtful.classifier.weight.mul_(0.01)
        doubtful.classifier.bias.mul_(0.01)
        sure.classifier.bias[3] += 100
    batch = case.inputs(sure.config)
    said = [predict(model, batch) for model in (doubtful, sure)]
    outputs = TeacherOutputs([[logits] for logits in said], [0.5, 0.5], batch)
    assert (TEACHER_WEIGHTING["confidence"](outputs)[1] > 0.9).all()
    torch.testing.assert_close(
        ensemble_predictions(TEACHER_WEIGHTING["confidence"], [doubtful, sure], [0.5, 0.5], batch),
        said[1].softmax(-1),
        atol=0.1,
        rtol=0,
    )
    labeled = replace(outputs, batch=batch | {"labels": torch.tensor([3, 2])})
    wrong = TEACHER_WEIGHTING["labels"](labeled)
    assert wrong[1, 0] > 0.6
    assert wrong[1, 1] < 0.01


def test_scores_belong_to_the_samples_they_are_about():
    words = torch.tensor([[IGNORED_LABEL, 5, 6], [IGNORED_LABEL, IGNORED_LABEL, 7]])
    assert sample_indices({"input_ids": words, "labels": words}, 3).tolist() == [0, 0, 1]
    assert sample_indices({"pixel_values": torch.zeros(3, 1)}, 6).tolist() == [0, 0, 1, 1, 2, 2]
