"""Tied output embeddings, according to the weights in the files.

A configuration may call the output embeddings tied although the file holds two different matrices. transformers then
keeps them apart, with a warning; a fusion must know, or it would lose one of them.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.errors import ConfigError


def is_tied(model: PreTrainedModel) -> bool | None:
    """Return whether input and output embeddings are one matrix; None for a model that lacks either."""
    head = model.get_output_embeddings()
    if head is None:
        return None
    return getattr(model.get_input_embeddings(), "weight", None) is head.weight


def with_actual_ties(model: PreTrainedModel) -> PreTrainedModel:
    """Correct `tie_word_embeddings` of a model whose head is not tied, and return the model.

    Other parameters that this setting ties, such as biases, get tensors of their own, since none is tied without it,
    except in T5: its files tie the embeddings of the encoder and the decoder whatever they say of the head.
    """
    if is_tied(model) is False and getattr(model.config, "tie_word_embeddings", False):
        tied = model.get_expanded_tied_weights_keys(all_submodels=True)
        if _always_ties(model.config):
            names = [name for name in tied if model.get_parameter(name) is not model.get_parameter(tied[name])]
        else:
            names = [*dict.fromkeys([*tied.values(), *tied])]
        _give_own_tensors(model, names)
        model.config.tie_word_embeddings = False
    return model


def _always_ties(config: PreTrainedConfig) -> bool:
    """Return whether the class of a configuration ignores a `tie_word_embeddings` of false in files."""
    read = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": False})
    return bool(getattr(read, "tie_word_embeddings", False))


def with_separate_tensors(model: PreTrainedModel) -> PreTrainedModel:
    """Tie the parameters of a loaded model that its configuration ties and that are equal, separate all others.

    Returns:
        The model, with `tie_word_embeddings` corrected.
    """
    if _always_ties(model.config):
        model.config.tie_word_embeddings = True
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    for target, source in tied.items():
        if torch.equal(model.get_parameter(target), model.get_parameter(source)):
            _set_parameter(model, target, model.get_parameter(source))
    with_actual_ties(model)
    others = [name for name, _ in model.named_parameters(remove_duplicate=False) if name not in tied]
    _give_own_tensors(model, others)
    return model


def _give_own_tensors(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Give each of these parameters a tensor of its own if it is the same as one before it."""
    seen = set()
    for name in names:
        parameter = model.get_parameter(name)
        if id(parameter) in seen:
            _set_parameter(model, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
        seen.add(id(parameter))


def _set_parameter(model: PreTrainedModel, name: str, parameter: nn.Parameter) -> None:
    module, _, name = name.rpartition(".")
    setattr(model.get_submodule(module), name, parameter)


def with_equal_tensors_tied(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Tie the parameters of a model on the meta device whose tensors are equal in the files, and return the model.

    Files that can only be loaded as a whole (pickles) are taken to hold what the configuration says.
    """
    locations = tensor_locations(folder, model)
    if locations is None:
        return model
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if target not in locations or source not in locations or parameters[target] is parameters[source]:
            continue
        if torch.equal(locations[target].read(), locations[source].read()):
            _set_parameter(model, target, parameters[source])
    return with_actual_ties(model)


def check_ties(model: PreTrainedModel, name: str) -> None:
    """Check that the configuration of a loaded model says correctly whether its head is tied.

    Raises:
        ConfigError: it does not.
    """
    actual = is_tied(model)
    configured = bool(getattr(model.config, "tie_word_embeddings", False))
    if actual is not None and actual != configured:
        raise ConfigError(
            f"{name}: tie_word_embeddings is {configured}, but its head and its embeddings are"
            f" {'one matrix' if actual else 'two matrices'}; set it to {actual}"
        )
