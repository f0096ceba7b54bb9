"""Models that are configured otherwise: untrained ones, or with the same weights."""

import copy

import torch
from transformers import PreTrainedConfig, PreTrainedModel


def empty_like(
    model: PreTrainedModel,
    config: PreTrainedConfig,
    device: torch.device | None = None,
    architecture: type[PreTrainedModel] | None = None,
) -> PreTrainedModel:
    """Return an untrained model of the same class, precision, device and generation settings, configured otherwise.

    The same parameters are tied. The random numbers of the caller go on as if none had been drawn.

    Args:
        config: its configuration.
        device: another device; a model on `meta` has no weights.
        architecture: another class with the same parameters; None: the same class.
    """
    device = device or model.device
    architecture = architecture or type(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        empty = architecture(config).to(model.dtype).eval()
    if model.can_generate():
        empty.generation_config = copy.deepcopy(model.generation_config)
    _tie_as(model, empty)
    return empty


def with_config(
    model: PreTrainedModel, config: PreTrainedConfig, architecture: type[PreTrainedModel] | None = None
) -> PreTrainedModel:
    """Return a model of the same weights that computes as another configuration says.

    Args:
        model: its tensors may be empty, and are then empty in the result.
        config, architecture: as for `empty_like`; the parameters have the same names and shapes.
    """
    changed = empty_like(model, config, architecture=architecture)
    if model.device.type != "meta":
        changed.load_state_dict(model.state_dict(), strict=False)  # all but constants
    return changed


def _tie_as(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Tie parameters of another model of the same class as they are in `model`, whatever its configuration says."""
    parameters = dict(other.named_parameters(remove_duplicate=False))
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = owners.setdefault(id(parameter), name)
        if name in parameters and owner in parameters and parameters[name] is not parameters[owner]:
            module, _, own = name.rpartition(".")
            setattr(other.get_submodule(module), own, parameters[owner])
