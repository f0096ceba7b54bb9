"""The loss over a vocabulary in slices: the same loss and gradients as all at once, and no large tensor."""

from typing import Any

import pytest
import torch
from cases import CASES, GPT2, Case
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model
from transformers.modeling_outputs import CausalLMOutput

from transfuse.base.batch import IGNORED_LABEL, cast, labels_of
from transfuse.config.literals import LearningOptions
from transfuse.distillation import sliced_loss
from transfuse.distillation.sliced_loss import mean_loss, total_loss
from transfuse.distillation.targets import BatchTargets, EnsembleTargets, GivenTargets, Targets
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, ensemble_predictions
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network.outputs import answer_states, logits, predict

NAMES = (
    "ViTForImageClassification",
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForMaskedLM-tie_word_embeddings",
    "DistilBertForMaskedLM",
    "ModernBertForMaskedLM",
    "GPT2LMHeadModel",
    "GPT2LMHeadModel-tie_word_embeddings",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
    "OPTForCausalLM-word_embed_proj_dim-do_layer_norm_before",
    "LlamaForCausalLM",
    "Gemma2ForCausalLM",  # caps its logits
    "T5ForConditionalGeneration",  # has no trunk of its own, so its logits are computed at once
)
MODELS = [next(case for case in CASES if case.name == name) for name in NAMES]
VOCABULARY = 997  # many more entries than units of a layer


def labeled(case: Case, model: torch.nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A batch of which some positions have no label."""
    batch = cast(case.inputs(model.config, seed), torch.float64)
    if "input_ids" not in batch:
        return batch | {"labels": torch.tensor([1, 3])}
    labels = batch["input_ids"].clone()
    labels[:, -1] = labels[0, :3] = IGNORED_LABEL
    return batch | {"labels": labels}


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (loss / 3).backward()
    return {name: values.grad for name, values in model.named_parameters() if values.grad is not None}


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
@pytest.mark.parametrize("how", ["hard labels", "uniform", "confidence", "labels"])
def test_slices_give_the_loss_and_the_gradients_of_the_whole(case: Case, how: str, monkeypatch) -> None:
    monkeypatch.setattr(sliced_loss, "CPU_SLICE", 3 * 31)
    model, parents, weights = case.build(1), [case.build(2), case.build(3)], [0.3, 0.7]
    batch = labeled(case, model)
    expected, targets = labels_of(batch), GivenTargets(labels_of(batch))
    if how != "hard labels":
        weighting = TEACHER_WEIGHTING[how]
        expected = ensemble_predictions(weighting, parents, weights, batch)
        options = LearningOptions(steps=1)
        targets = EnsembleTargets(*parents_and_shares(Targets(parents, weights, options, weighting, []), batch))
        torch.testing.assert_close(Targets(parents, weights, options, weighting, []).of_batch(batch)[:], expected)
    whole = cross_entropy(logits(model, batch, model.get_output_embeddings()), expected)
    due = gradients(model, whole)
    found = mean_loss(answer_states(model, batch), targets, model.parameters())
    torch.testing.assert_close(found, whole.float(), atol=1e-5, rtol=1e-5)
    seen = gradients(model, found)
    assert seen.keys() == due.keys()
    for name, values in due.items():
        torch.testing.assert_close(seen[name], values, atol=1e-6, rtol=1e-4, msg=lambda text, name=name: name + text)
    with torch.no_grad():
        total = total_loss(answer_states(model, batch), targets)
    torch.testing.assert_close(total / len(targets), whole.float(), atol=1e-5, rtol=1e-5)


def parents_and_shares(targets: Targets, batch: dict[str, Tensor]) -> tuple[Any, Tensor]:
    """What the heads of the parents read, and the weight of each parent for each answer."""
    with torch.no_grad():
        answers = [answer_states(parent, batch) for parent in targets.parents]
    _, shares = targets.of_answers(answers, batch)
    samples = torch.arange(len(answers[0])) % len(shares[0])
    if "input_ids" in batch:
        samples = (batch["labels"] != IGNORED_LABEL).nonzero()[:, 0]
    return answers, shares[:, samples]


def test_gradients_are_read_once() -> None:
    case = MODELS[0]
    model = case.build(1)
    batch = labeled(case, model)
    loss = mean_loss(answer_states(model, batch), GivenTargets(batch["labels"]), model.parameters())
    loss.backward(retain_graph=True)
    with pytest.raises(TypeError):
        loss.backward()


class LargestOutput(TorchDispatchMode):
    """Records the largest number of entries of any tensor that an operation returns, in the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.entries = max([self.entries, *sizes])
        return output


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertForMaskedLM", "Gemma2ForCausalLM"])
@pytest.mark.parametrize("how", ["uniform", "confidence", "labels"])
def test_no_step_holds_the_logits_of_a_batch(name: str, how: str, monkeypatch) -> None:
    """Nothing is larger than the matrix of the vocabulary, of which there are gradients."""
    monkeypatch.setattr(sliced_loss, "CPU_SLICE", 3 * VOCABULARY)
    case = next(case for case in CASES if case.name == name)
    fused, parents = case.build(1, vocab_size=VOCABULARY), [case.build(seed, vocab_size=VOCABULARY) for seed in (2, 3)]
    batches = [labels_everywhere(VOCABULARY, seed) for seed in range(2)]
    answers = batches[0]["input_ids"].numel()
    matrix = fused.get_output_embeddings().weight.numel()
    with LargestOutput() as largest:
        loop = WeightDistillation(
            fused,
            parents,
            [0.5, 0.5],
            (batches[:1], batches[1:]),
            LearningOptions(steps=2),
            TEACHER_WEIGHTING[how],
            (),
            0,
        )
        loop.step()
        loop.step()
        loop.validate()
    assert answers * VOCABULARY > 3 * matrix
    assert largest.entries == matrix
    assert isinstance(first_targets(loop), EnsembleTargets)


def first_targets(loop: WeightDistillation) -> BatchTargets:
    return loop.cache.get_or_compute(loop.train_batches[0], loop._parent_means).targets


def labels_everywhere(vocabulary: int, seed: int) -> dict[str, Tensor]:
    ids = torch.randint(3, vocabulary, (8, 12), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "labels": ids.roll(-1, 1), "attention_mask": torch.ones_like(ids)}


def test_probabilities_are_kept_where_they_are_smaller() -> None:
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    parents, batch = [case.build(1), case.build(2)], labeled(case, case.build(1))
    targets = Targets(parents, [0.5, 0.5], LearningOptions(steps=1), TEACHER_WEIGHTING["uniform"], [batch])
    assert isinstance(targets.of_batch(batch), GivenTargets)  # 31 probabilities, not 48 entries of states
    assert targets.of_batch(batch) is targets.of_batch(batch)


def test_variants_do_not_depend_on_the_slices(monkeypatch) -> None:
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    drawn = []
    for entries in (1, 5 * VOCABULARY, 2**22):
        monkeypatch.setattr(sliced_loss, "CPU_SLICE", entries)
        fused, parent = case.build(1, vocab_size=VOCABULARY), case.build(2, vocab_size=VOCABULARY)
        batches = [labels_everywhere(VOCABULARY, seed) for seed in range(2)]
        loop = WeightDistillation(
            fused,
            [parent],
            [1.0],
            (batches[:1], batches[1:]),
            LearningOptions(steps=1),
            TEACHER_WEIGHTING["auto"],
            (),
            0,
        )
        assert loop.variants
        drawn.append(loop.variants.variant(0, 2))
    for variant in drawn[1:]:
        assert all(torch.equal(variant[name], values) for name, values in drawn[0].items())


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertForMaskedLM"])
def test_slices_share_weights_that_are_rounded_once(name: str, monkeypatch) -> None:
    """Under autocast, as on a GPU, all slices use one copy of the matrix in bfloat16, and gradients are summed up."""
    monkeypatch.setattr(sliced_loss, "CPU_SLICE", 3 * 31)
    case = next(case for case in CASES if case.name == name)
    model = case.build(1).float()
    batch = labeled(case, model)
    targets = Targets(
        [case.build(2).float()], [1.0], LearningOptions(steps=1), TEACHER_WEIGHTING["labels"], []
    ).of_batch(batch)
    due = gradients(model, mean_loss(answer_states(model, batch), targets, model.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = mean_loss(answer_states(model, batch), targets, model.parameters())
    found = gradients(model, loss)
    matrix = next(name for name in due if name.endswith(("wte.weight", "word_embeddings.weight")))
    assert loss.dtype == found[matrix].dtype == torch.float32
    assert (found[matrix] - due[matrix]).norm() < 0.05 * due[matrix].norm()


class Around(GPT2LMHeadModel):
    """It calls its trunk in a way that replaced states do not reach its head."""

    def forward(self, input_ids, attention_mask):
        states = GPT2Model.forward(self.transformer, input_ids, attention_mask=attention_mask)
        return CausalLMOutput(logits=self.lm_head(states.last_hidden_state))


def test_a_model_that_goes_around_its_trunk_is_computed_at_once():
    torch.manual_seed(0)
    model = Around(GPT2Config(**GPT2)).eval()
    ids = torch.randint(3, 31, (2, 6))
    labels = ids.clone()
    labels[:, :2] = IGNORED_LABEL
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    answers = answer_states(model, batch)
    torch.testing.assert_close(answers.logits(), predict(model, batch))
    assert len(answers) == 8


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "OPTForCausalLM"])
def test_a_trunk_runs_once(name):
    """OPT calls a part of its base model, and not the base model itself."""
    case = next(case for case in CASES if case.name == name)
    model = case.build()
    runs = []
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.register_forward_hook(lambda module, *_: runs.append(module))
    answers = answer_states(model, labeled(case, model))
    assert len(runs) == len({*runs}) == 2
    assert answers.states.shape[1] == model.config.hidden_size
