"""Each kind of output has a loss of its own, which is the one that transformers' models compute."""

from typing import Any

import pytest
import torch
from kinds import NAMES, SIZES, THINGS, classes
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from transfuse.base.batch import IGNORED_LABEL, Batch, labels_of, sample_indices
from transfuse.config.literals import LearningOptions
from transfuse.distillation.sliced_loss import mean_loss
from transfuse.distillation.targets import GivenTargets, Targets
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, TeacherOutputs, ineffective_weighting, uniform
from transfuse.distillation.validation import Validation
from transfuse.network.output_losses import EMBEDDINGS, SIGMOID, SOFTMAX, SQUARED, OutputLoss, output_loss
from transfuse.network.outputs import logits

GENERATOR = torch.Generator().manual_seed(0)
IDS = torch.randint(5, 16, (4, 6), generator=GENERATOR)
MASK = torch.tensor([[1] * length + [0] * (6 - length) for length in (6, 3, 5, 6)])
TEXTS = {"input_ids": IDS, "attention_mask": MASK}
TAGS = torch.where(MASK == 1, IDS % 3, IGNORED_LABEL)
NUMBERS = torch.randn(4, 2, generator=GENERATOR)
SETS = (torch.rand(4, 5, generator=GENERATOR) < 0.5).float()
SPANS = torch.tensor([[1, 4], [0, 2], [2, 2], [3, 5]])


def bert(build: Any, seed: int = 0, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    return build(BertConfig(**SIZES | changes)).eval()


def t5(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 16}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()


SHIFTED = {"decoder_input_ids": nn.functional.pad(IDS[:, :-1], (1, 0)), "decoder_attention_mask": MASK}
KINDS: dict[str, tuple[PreTrainedModel, Batch, dict[str, Tensor], OutputLoss]] = {
    "regression": (
        bert(BertForSequenceClassification, num_labels=2, problem_type="regression"),
        {**TEXTS, "labels": NUMBERS},
        {"labels": NUMBERS},
        SQUARED,
    ),
    "multi-label": (
        bert(BertForSequenceClassification, problem_type="multi_label_classification", **classes((*NAMES, *THINGS))),
        {**TEXTS, "labels": SETS},
        {"labels": SETS},
        SIGMOID,
    ),
    "token classification": (
        bert(BertForTokenClassification, num_labels=3),
        {**TEXTS, "labels": TAGS},
        {"labels": TAGS},
        SOFTMAX,
    ),
    "question answering": (
        bert(BertForQuestionAnswering),
        {**TEXTS, "attention_mask": torch.ones_like(MASK), "labels_span": SPANS},
        {"start_positions": SPANS[:, 0], "end_positions": SPANS[:, 1], "attention_mask": torch.ones_like(MASK)},
        SOFTMAX,
    ),
    "sequence to sequence": (
        t5(),
        {**TEXTS, **SHIFTED, "labels": torch.where(MASK == 1, IDS, IGNORED_LABEL)},
        {"labels": torch.where(MASK == 1, IDS, IGNORED_LABEL), "decoder_attention_mask": MASK},
        SOFTMAX,
    ),
}


LEARNING = (LearningOptions(steps=1), uniform, [TEXTS])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_on_labels_is_that_of_the_model(kind: str) -> None:
    model, batch, labels, expected = KINDS[kind]
    loss = output_loss(model)
    assert loss is expected
    found = loss.losses(logits(model, batch, model.get_output_embeddings()), labels_of(batch))
    torch.testing.assert_close(found, model(**{**TEXTS, **labels}).loss)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_slices_are_those_of_the_loss(kind: str) -> None:
    model, batch, _, loss = KINDS[kind]
    answers = loss.answers(model, batch)
    targets = loss.predictions(answers.logits().detach().roll(1, 0))
    parameters = list(model.parameters())
    directly = loss.losses(answers.logits(), targets)
    expected = torch.autograd.grad(directly, parameters, allow_unused=True)
    value = mean_loss(loss.answers(model, batch), GivenTargets(targets), parameters, loss)
    torch.testing.assert_close(value, directly)
    for found, due in zip(torch.autograd.grad(value, parameters, allow_unused=True), expected, strict=True):
        torch.testing.assert_close(torch.zeros(()) if found is None else found, torch.zeros(()) if due is None else due)


@pytest.mark.parametrize("loss", [SOFTMAX, SIGMOID, SQUARED])
def test_drawn_gradients_have_no_mean(loss: OutputLoss) -> None:
    """The expected gradient of the loss against labels drawn from the predictions is zero."""
    outputs = torch.randn(1, 4, generator=GENERATOR).expand(20_000, -1)
    drawn = loss.drawn_gradients(outputs, torch.Generator().manual_seed(1))
    assert drawn.std() > 0.05
    assert drawn.mean(0).abs().max() < 0.03


def test_padding_is_no_answer() -> None:
    """Without labels, tokens that are padding are not among the rows, and no answer begins in padding."""
    tagger = bert(BertForTokenClassification, num_labels=3)
    rows = logits(tagger, TEXTS, None)
    assert len(rows) == MASK.sum()
    assert sample_indices(TEXTS, len(rows)).tolist() == [0] * 6 + [1] * 3 + [2] * 5 + [3] * 6
    probabilities = logits(bert(BertForQuestionAnswering), TEXTS, None).softmax(-1)
    assert sample_indices(TEXTS, len(probabilities)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (probabilities[2:4, 3:] == 0).all()
    states = EMBEDDINGS.answers(bert(BertModel), TEXTS).logits()
    assert states.shape == (20, 16)


@pytest.mark.parametrize("name", ["confidence", "labels"])
def test_numbers_have_no_confidence(name: str) -> None:
    model, batch, _, loss = KINDS["regression"]
    outputs = [
        [logits(model, batch, None)],
        [logits(bert(BertForSequenceClassification, 1, num_labels=2), batch, None)],
    ]
    given = TeacherOutputs(outputs, [0.3, 0.7], batch, loss)
    torch.testing.assert_close(TEACHER_WEIGHTING[name](given), uniform(given))
    assert "have no confidence" in str(ineffective_weighting(name, loss))
    assert ineffective_weighting(name, SIGMOID) is None
    assert ineffective_weighting("uniform", loss) is None


def test_sets_are_weighted_by_the_entropy_of_their_labels() -> None:
    batch = {"input_ids": IDS[:1]}
    sure, unsure = torch.tensor([[9.0, -9.0]]), torch.tensor([[0.1, -0.1]])
    shares = TEACHER_WEIGHTING["confidence"](TeacherOutputs([[sure], [unsure]], [0.5, 0.5], batch, SIGMOID))
    assert shares[0, 0] > 0.9
    even = TEACHER_WEIGHTING["confidence"](TeacherOutputs([[sure], [-sure]], [0.5, 0.5], batch, SIGMOID))
    torch.testing.assert_close(even[:, 0], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(("samples_per_step", "steps"), [(2, 25), (1, 25), (0.02, 175), (0.01, 325)])
def test_validation_takes_a_small_part_of_the_passes(samples_per_step: float, steps: int) -> None:
    parents = [bert(BertForSequenceClassification, seed, num_labels=1) for seed in (0, 1)]
    targets = Targets(parents, [0.5, 0.5], *LEARNING)
    validation = Validation(parents, [0.5, 0.5], [TEXTS], targets)
    assert validation.interval(samples_per_step * len(TEXTS["input_ids"])) == steps


def test_targets_are_means_of_numbers_and_losses_relative_to_those_of_the_parents() -> None:
    parents = [bert(BertForSequenceClassification, seed, num_labels=1) for seed in (0, 1)]
    targets = Targets(parents, [0.25, 0.75], *LEARNING)
    numbers = [parent(**TEXTS).logits.detach() for parent in parents]
    mean = 0.25 * numbers[0] + 0.75 * numbers[1]
    torch.testing.assert_close(targets.of_batch(TEXTS)[:], mean)
    validation = Validation(parents, [0.25, 0.75], [TEXTS], targets)
    errors = [float((values - mean).square().mean()) for values in numbers]
    assert validation.scale == pytest.approx(0.25 * errors[0] + 0.75 * errors[1], rel=1e-4)
    excess = validation.excess_loss(lambda batch: SQUARED.answers(parents[0], batch))
    assert excess == pytest.approx(errors[0] / validation.scale - 1, rel=1e-3)
    equal = Validation([parents[0]] * 2, [0.5, 0.5], [TEXTS], Targets([parents[0]] * 2, [0.5, 0.5], *LEARNING))
    assert equal.scale == pytest.approx(1e-3 * float(numbers[0].var(correction=0)), rel=1e-4)
