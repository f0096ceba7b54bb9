"""Scores of a language model a few tokens at a time: all of them together are larger than the model."""

from collections.abc import Iterator
from copy import copy
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL, Batch, without_labels
from transfuse.network.model import predict


@torch.no_grad()
def predict_in_slices(model: PreTrainedModel, batch: Batch, entries: int) -> Iterator[Float[Tensor, "answer cls"]]:
    """Yield the logits of a batch in the order of its answers, at most `entries` scores at a time.

    The trunk runs once. What stands behind it runs once for every slice of the tokens that are asked for, with all that
    a class does there: a transform, a bias, a cap on its scores. Models without a trunk of their own, and those that
    answer once a sample, answer at once.
    """
    labels, trunk = batch.get("labels"), model.base_model
    if labels is None or labels.ndim == 1 or trunk is model or model.get_output_embeddings() is None:
        yield predict(model, batch)
        return
    inputs = {name: values.to(model.device) for name, values in without_labels(batch).items()}
    states: Any = trunk(
        **inputs, **({"use_cache": False} if "use_cache" in signature(trunk.forward).parameters else {})
    )
    asked = states.last_hidden_state[(labels != IGNORED_LABEL).to(model.device)]
    rows = max(1, entries // model.get_output_embeddings().weight.shape[0])
    for part in asked.split(rows) if len(asked) else (asked,):
        shown = copy(states)
        shown["last_hidden_state"] = part.unsqueeze(0)
        yield _behind(model, trunk, shown, inputs).flatten(0, 1).float()


def _behind(model: PreTrainedModel, trunk: nn.Module, states: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What a model says where its trunk puts out these states."""
    own = vars(trunk).get("forward")  # a wrapper's, as accelerate puts it there
    trunk.forward = lambda *_, **__: states
    try:
        return model(**inputs).logits
    finally:
        del trunk.forward
        if own is not None:
            trunk.forward = own
