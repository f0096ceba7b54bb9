"""Whether a head and its embeddings are one matrix, as the files have it.

A configuration may say that they are while the file holds two. transformers then keeps them apart, with a warning; a
fusion has to know, or one of them is lost.
"""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from transfuse.checkpoint.lazy_tensors import tensor_locations
from transfuse.errors import ConfigError


def is_tied(model: PreTrainedModel) -> bool | None:
    """Whether the output embeddings are the input embeddings; None for a model that lacks either."""
    head = model.get_output_embeddings()
    if head is None:
        return None
    return getattr(model.get_input_embeddings(), "weight", None) is head.weight


def with_actual_ties(model: PreTrainedModel) -> PreTrainedModel:
    """The model, its configuration corrected: `tie_word_embeddings` says whether its head is tied."""
    if is_tied(model) is False and getattr(model.config, "tie_word_embeddings", False):
        model.config.tie_word_embeddings = False
    return model


def with_equal_tensors_tied(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """The same for a model without data: tensors that the files hold twice are compared there, and tied where equal.

    Files that can only be loaded whole (pickles) are believed to hold what the configuration says.
    """
    where = tensor_locations(directory, model)
    if where is None:
        return model
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if target not in where or source not in where or parameters[target] is parameters[source]:
            continue
        if torch.equal(where[target].read(), where[source].read()):
            module, _, name = target.rpartition(".")
            setattr(model.get_submodule(module), name, parameters[source])
    return with_actual_ties(model)


def check_ties(model: PreTrainedModel, name: str) -> None:
    """Raise `ConfigError` for a loaded model whose configuration calls a head tied that is not, or the reverse."""
    found, said = is_tied(model), bool(getattr(model.config, "tie_word_embeddings", False))
    if found is not None and found != said:
        raise ConfigError(
            f"{name}: tie_word_embeddings is {said}, but its head and its embeddings are"
            f" {'one matrix' if found else 'two matrices'}; set it to {found}"
        )
