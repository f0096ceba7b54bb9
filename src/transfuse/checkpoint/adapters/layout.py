"""Decide which part of an adapter holds each tensor of a model: a low-rank product, a full copy of a module, or none.

PEFT adds low-rank products to linear layers, and replaces other modules by full copies (`modules_to_save`). A module
that contains an adapted layer cannot be replaced, so its own parameters are left out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from transfuse.checkpoint.reading.adapted_model import TASKS
from transfuse.errors import ConfigError

TASK_HEADS = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}
"""Names, by the task of an adapter, of the modules that PEFT replaces by copies in any case."""
UNSUPPORTED = ("dinov3_vit",)  # model types whose tensors PEFT 0.21 renames when it loads an adapter
TIED = "embed_tokens"  # the name of an input embedding whose copy PEFT can tie to that of the output embedding


@dataclass(frozen=True)
class AdapterLayout:
    """Say which part of an adapter holds each tensor.

    Attributes:
        layers: names of the linear layers with low-rank products.
        copied: names of the modules that are replaced by full copies.
        left_out: names of changed tensors that an adapter cannot hold.
        task: the task of the adapter in PEFT's words; None if PEFT has no word for it.
        tied: whether PEFT is to tie the copies of the input and of the output embedding.
    """

    layers: Sequence[str]
    copied: Sequence[str]
    left_out: Sequence[str]
    task: str | None
    tied: bool


def adapter_layout(model: PreTrainedModel, changed: Collection[str], absent: Collection[str] = ()) -> AdapterLayout:
    """Return the layout of an adapter that holds the change of some tensors of a model.

    Args:
        model: may be on the meta device.
        changed: names of the changed tensors in its state dict.
        absent: those of them that the base lacks, so that there is nothing to add a product to.

    Raises:
        ConfigError: PEFT cannot load an adapter of this model.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    _check_supported(model)
    trunk = {id(module) for module in model.base_model.modules()}
    lacking = {name.rpartition(".")[0] for name in absent}
    adaptable = [
        name
        for name, module in modules.items()
        if id(module) in trunk and name not in lacking and _is_adaptable(name, modules)
    ]
    task = _task(model)
    copied: set[str] = set()
    left_out = []
    for name in changed:
        owner = name.rpartition(".")[0]
        if owner in adaptable:
            continue
        unit = owner if owner and id(modules[owner]) in trunk else owner.partition(".")[0]
        if not unit or any(layer.startswith(f"{unit}.") for layer in adaptable):
            left_out.append(name)
        else:
            copied.add(unit)
    copied |= set(matched(TASK_HEADS.get(task or "", ()), modules))
    copied = set(matched(copied, modules))  # PEFT replaces all modules whose names end with one of these
    outer = [name for name in modules if name in copied and not any(name.startswith(f"{other}.") for other in copied)]
    layers = [name for name in adaptable if not any(f"{name}.".startswith(f"{other}.") for other in outer)]
    return AdapterLayout(layers, outer, left_out, task, _is_tied(model, outer))


def adapter_bytes(model: PreTrainedModel, rank: int) -> int:
    """Return the size of an adapter of a model all of whose tensors change.

    Raises:
        ConfigError: PEFT cannot load an adapter of this model.
    """
    tensors = model.state_dict()
    layout = adapter_layout(model, tensors)
    factors = (
        min(rank, *shape) * sum(shape) for shape in (tensors[f"{layer}.weight"].shape for layer in layout.layers)
    )
    factor_bytes = torch.promote_types(model.dtype, torch.float32).itemsize
    copied = (values.nbytes for name in layout.copied for values in model.get_submodule(name).state_dict().values())
    return sum(factors) * factor_bytes + sum(copied)


def matched(names: Collection[str], modules: Collection[str]) -> list[str]:
    """Return the modules that PEFT replaces by copies if `modules_to_save` has these names."""
    return [module for module in modules if any(module.endswith(name) for name in names)]


def shortened(chosen: Collection[str], modules: Collection[str], mark: str) -> list[str]:
    """Return the last parts of names instead of these, where PEFT finds only chosen modules by them.

    Args:
        mark: what stands before the last part where PEFT compares the ends of names: "." or nothing.
    """
    short: dict[str, None] = {}
    for name in chosen:
        last = name.rpartition(".")[2]
        alike = [module for module in modules if module == last or module.endswith(f"{mark}{last}")]
        short[last if set(alike) <= set(chosen) and not last.isdecimal() else name] = None
    return list(short)


def is_transposed(module: nn.Module) -> bool:
    """Return whether a layer stores its matrix as [inputs, outputs], as those of GPT-2 do."""
    return isinstance(module, Conv1D)


def _is_adaptable(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether a module is a linear layer that computes its outputs itself."""
    parent = modules.get(name.rpartition(".")[0])
    return isinstance(modules[name], nn.Linear | Conv1D) and not isinstance(parent, nn.MultiheadAttention)


def _check_supported(model: PreTrainedModel) -> None:
    """Raise `ConfigError` if PEFT cannot load an adapter of this model."""
    if model.config.model_type in UNSUPPORTED:
        raise ConfigError(
            f"adapter-out: PEFT does not find the layers of {type(model).__name__} when it loads an adapter; leave"
            " adapter-out out"
        )
    for name, values in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if values.ndim == 3 and len(values) > 1 and not isinstance(owner, nn.Conv1d):
            raise ConfigError(
                f"adapter-out: {name} holds the matrices of several experts, which adapters are not written for; leave"
                " adapter-out out"
            )


def _task(model: PreTrainedModel) -> str | None:
    """Return PEFT's word for the task of a model."""
    for task, automatic in TASKS.items():
        named = automatic._model_mapping.get(type(model.config), None)
        if type(model) in (named if isinstance(named, tuple) else (named,)):
            return task
    return None


def _is_tied(model: PreTrainedModel, copied: Collection[str]) -> bool:
    """Return whether the input and the output embedding, and no other module, share a matrix that is copied."""
    output = model.get_output_embeddings()
    if not isinstance(output, nn.Linear) or output.bias is not None:
        return False
    named = model.named_parameters(remove_duplicate=False)
    sharing = [name.rpartition(".")[0] for name, values in named if values is output.weight]
    return len(sharing) == 2 and set(sharing) <= set(copied) and any(name.endswith(TIED) for name in sharing)
