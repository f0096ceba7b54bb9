"""Outputs of models: logits of a batch, all at once or in slices, and the raw output of any class."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import (
    IGNORED_LABEL,
    Batch,
    cast,
    is_labeled_per_sample,
    on_device,
    output_mask,
    without_labels,
)
from transfuse.errors import SpecError
from transfuse.network.inputs import model_inputs

# They are the outputs of a classifier, a reader of answers, two towers, BERT as it was pre-trained, a tower with a
# projection, and a model without a head.
OUTPUT_NAMES = (
    ("logits",),
    ("start_logits", "end_logits"),
    ("logits_per_image",),
    ("prediction_logits", "seq_relationship_logits"),
    ("image_embeds",),
    ("text_embeds",),
    ("last_hidden_state", "pooler_output"),
)
PIXEL_ORDER = "ids_restore"  # an output of models whose logits are pixels, not scores
LOGIT_NAMES = ("logits", "start_logits", "end_logits", "logits_per_image", "prediction_logits")
"""The logits to compare, which are independent of the basis of the stream."""
EMBEDDING_NAMES = ("image_embeds", "text_embeds")
NEVER = -1e9  # logit of a position that is padding


def logits(model: nn.Module, batch: Batch, head: nn.Module | None) -> Float[Tensor, "sample cls"]:
    """Return the logits of every sample, or of every token that has a label, or that is not padding.

    Those of a start and of an end of an answer are two rows for each sample.

    Args:
        model: may be wrapped; `batch` is on its device.
        head: the output embedding, which then computes logits of labeled tokens only; None: there is none.

    Raises:
        SpecError: the model has no head, so it has no logits.
    """
    labeled = None if is_labeled_per_sample(batch) else batch["labels"] != IGNORED_LABEL
    with ExitStack() as hooks:
        if head is not None and labeled is not None:
            hooks.enter_context(head.register_forward_pre_hook(lambda module, inputs: (inputs[0][labeled],)))
        outputs = model(**without_labels(batch))
    scores = [outputs[name] for name in LOGIT_NAMES if name in outputs]
    if not scores:
        raise SpecError(f"{type(model).__name__} has no head, so it has no logits to compare or to evaluate")
    if len(scores) == 2:
        return _spans(scores[0], scores[1], batch).float()
    return answer_rows(scores[0], batch).float()


def answer_rows(values: Float[Tensor, "*answers unit"], batch: Batch) -> Float[Tensor, "answer unit"]:
    """Return the rows of values of tokens that have a label, or that are not padding if none has; others unchanged."""
    if values.ndim != 3:
        return values
    mask = output_mask(batch) if is_labeled_per_sample(batch) else batch["labels"] != IGNORED_LABEL
    is_mask = mask is not None and mask.shape == values.shape[:2]
    return values[mask.bool().to(values.device)] if mask is not None and is_mask else values.flatten(0, 1)


def _spans(starts: Tensor, ends: Tensor, batch: Batch) -> Float[Tensor, "answer token"]:
    """Return the logits of the first and the last token of each answer, one after the other."""
    both = torch.stack([starts, ends], 1)
    if "attention_mask" in batch:
        both = both.masked_fill(batch["attention_mask"].to(both.device).unsqueeze(1) == 0, NEVER)
    return both.flatten(0, 1)


@torch.no_grad()
def has_logits(model: PreTrainedModel) -> bool:
    """Return whether a model has a head that scores classes, tokens, positions or pairs."""
    inputs = cast(model_inputs(model), model.dtype)
    outputs = model(**on_device(inputs, model.device))
    return any(name in outputs for name in LOGIT_NAMES) and PIXEL_ORDER not in outputs


@torch.no_grad()
def predict(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "sample cls"]:
    """Return the logits of a batch from any device, on the device of the model."""
    moved = on_device(batch, model.device)
    return logits(model, moved, model.get_output_embeddings())


@dataclass(frozen=True)
class AnswerStates:
    """What the head of a model reads for each answer of a batch, from which logits are computed slice by slice.

    All logits of a language model together can be larger than the model.

    Attributes:
        states: the trunk's output at the answers, or the logits themselves if they are not computed in slices.
        classes: number of logits of an answer.
        head: computes the logits of some rows of `states`.
    """

    states: Float[Tensor, "answer unit"]
    classes: int
    head: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.states)

    def logits(self, rows: slice = slice(None)) -> Float[Tensor, "answer cls"]:
        """Return the logits of some answers."""
        return self.head(self.states[rows])

    def slices(self, entries: int) -> list[slice]:
        """Return consecutive slices of the answers with at most `entries` logits each; at least one."""
        size = max(1, entries // self.classes)
        return [slice(start, start + size) for start in range(0, max(1, len(self)), size)]

    def in_slices(self, entries: int) -> Iterator[Float[Tensor, "answer cls"]]:
        """Yield the logits of all answers in order, at most `entries` numbers at a time."""
        for rows in self.slices(entries):
            yield self.logits(rows)


def given_logits(values: Float[Tensor, "answer cls"]) -> AnswerStates:
    """Return logits that were computed all at once."""
    return AnswerStates(values, values.shape[1], unchanged_values)


def answer_states(model: PreTrainedModel, batch: Batch) -> AnswerStates:
    """Run the trunk of a model on a batch from any device, and return what its head reads, in the order of the labels.

    The head is the whole rest of the model: a transform, a bias, a cap on logits. The logits of models without a
    separate trunk, of those that go around it, and of those with one label per sample, are computed at once.
    """
    trunk = _trunk(model)
    embedding = model.get_output_embeddings()
    if is_labeled_per_sample(batch) or trunk is model or embedding is None:
        moved = on_device(batch, model.device)
        return given_logits(logits(model, moved, embedding))
    inputs = on_device(without_labels(batch), model.device)
    options = {"use_cache": False} if "use_cache" in signature(trunk.forward).parameters else {}
    output: Any = trunk(**inputs, **options)
    states = output.last_hidden_state[(batch["labels"] != IGNORED_LABEL).to(model.device)]
    pooled = {"pooler_output": output.pooler_output} if output.get("pooler_output") is not None else {}
    output_class: Callable[..., Any] = type(output)
    head = partial(_head_logits, model, partial(output_class, **pooled), inputs)
    with torch.no_grad():
        if len(states) and len(head(states[:1])) != 1:  # it calls parts of its trunk instead
            moved = on_device(batch, model.device)
            return given_logits(logits(model, moved, embedding))
    return AnswerStates(states, embedding.weight.shape[0], head)


def embedding_states(model: PreTrainedModel, batch: Batch) -> AnswerStates:
    """Return the embeddings of a batch from any device: two of each pair, one of each sample, or one of each token."""
    outputs = model(**on_device(without_labels(batch), model.device))
    embeddings = [outputs[name] for name in EMBEDDING_NAMES if outputs.get(name) is not None]
    if embeddings:
        return given_logits(torch.stack(embeddings, 1).flatten(0, 1).float())
    return given_logits(answer_rows(outputs["last_hidden_state"], batch).float())


@torch.no_grad()
def predict_in_slices(model: PreTrainedModel, batch: Batch, entries: int) -> Iterator[Float[Tensor, "answer cls"]]:
    """Yield the logits of a batch in the order of its labels, at most `entries` numbers at a time."""
    yield from answer_states(model, batch).in_slices(entries)


def unchanged_values(values: Tensor) -> Tensor:
    """Return what was given."""
    return values


def _trunk(model: PreTrainedModel) -> nn.Module:
    """Return the part of a model that its head reads: the base model, or its only part, which OPT calls directly."""
    parts = list(model.base_model.children())
    return parts[0] if len(parts) == 1 and isinstance(parts[0], PreTrainedModel) else model.base_model


def _head_logits(
    model: PreTrainedModel, output: Callable[..., Any], inputs: dict[str, Tensor], states: Float[Tensor, "answer unit"]
) -> Float[Tensor, "answer cls"]:
    """Return the logits of a model as if its trunk returned these states.

    Args:
        output: makes the output of the trunk from its states.
        inputs: any inputs, which only the trunk reads.
    """
    trunk = _trunk(model)
    replaced = vars(trunk).get("forward")  # set by a wrapper such as accelerate
    trunk.forward = lambda *_, **__: output(last_hidden_state=states.unsqueeze(0))
    try:
        outputs = model(**inputs)
        return next(outputs[name] for name in LOGIT_NAMES if name in outputs).flatten(0, 1).float()
    finally:
        del trunk.forward
        if replaced is not None:
            trunk.forward = replaced


@torch.no_grad()
def model_output(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the output of a model of any class, flattened."""
    outputs = model(**inputs)
    names = next(names for names in OUTPUT_NAMES if names[0] in outputs)
    return torch.cat([outputs[name].flatten() for name in names if outputs.get(name) is not None])
