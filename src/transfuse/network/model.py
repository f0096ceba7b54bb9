"""Models of transformers as networks of named tensors."""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import init_empty_weights
from accelerate.hooks import attach_align_device_hook
from accelerate.utils import set_module_tensor_to_device
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.lazy import Lazy, Materialize, as_needed, in_memory
from transfuse.network.families import declare, is_declared
from transfuse.network.layout import join_fused, split_fused, stored_names, unfused
from transfuse.network.operations import Table
from transfuse.network.precision import as_dtype, compute_dtype, matmul_dtype
from transfuse.network.spec import Spec

ALIGNMENT = 64  # bytes; the addresses of the tensors that torch allocates are multiples of it


@dataclass(frozen=True)
class Network:
    """A model, its declaration and its tensors.

    The declaration and the tensors are unfused (see `layout`), and the tensors are in the precision of the computation.

    Attributes:
        model: without data if tensors are read from files when they are needed. If its weights are mapped from files,
            they must not be changed.
        matmul_dtype: the precision of products of the weights, about twice the precision of the files.
        materialize: the policy for tensors that are computed from these and used more than once.
        name: what to call the model in messages.
        stored_dtype: the precision of the files.
    """

    model: PreTrainedModel
    spec: Spec
    tensors: Mapping[str, Tensor]
    matmul_dtype: torch.dtype = torch.float64
    materialize: Materialize = in_memory
    name: str = "a model"
    stored_dtype: torch.dtype = torch.float32

    @property
    def streamed(self) -> bool:
        """Whether tensors stay in their files until they are needed."""
        return self.materialize is as_needed

    def with_weights(self, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
        """Return a model of this architecture with other weights, given unfused. It must not be changed.

        Its weights are computed on demand if this network's are, and mapped if this network's are. Otherwise, they
        share memory with the given ones, where these are stored in the same form.
        """
        if self.streamed:
            return on_demand(self.model, tensors)
        return sharing_tensors(self.model, tensors, lambda stored: self.materialize(as_allocated(stored)))


def declaration(model: nn.Module) -> Spec:
    """Return the declaration of a model, with tensors as they are stored. Raise `SpecError` if there is none."""
    assert isinstance(model.config, PreTrainedConfig)
    return declare(model.config, type(model).__name__)


def has_declaration(model: PreTrainedModel) -> bool:
    """Return whether a family declares a model. Otherwise, it may still be merged without an alignment."""
    return is_declared(model.config, type(model).__name__)


def checked_declaration(model: PreTrainedModel) -> Spec:
    """Return the declaration of a model. Raise `SpecError` if there is none, or if the tensors do not match it."""
    spec = declaration(model)
    spec.validate({name: values.shape for name, values in model.state_dict().items()})
    return spec


def network(
    model: PreTrainedModel, device: torch.device, name: str = "a model", materialize: Materialize = in_memory
) -> Network:
    """Return a model ready for alignment: declared, checked, with tensors in float32 or better.

    Raises:
        SpecError: its class has no declaration, or the tensors do not match it.
    """
    dtype = compute_dtype(model.dtype)
    is_ready = model.dtype == dtype and model.device == device and not model.training
    precise = model if is_ready else converted(model, dtype, device)
    spec = checked_declaration(model)
    stored = {name: values.detach() for name, values in precise.state_dict().items()}
    tensors = materialize(split_fused(spec, stored))
    return Network(precise, unfused(spec), tensors, matmul_dtype(model.dtype), materialize, name, model.dtype)


def converted(model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Return a model in eval mode, in a precision and on a device, with modules and a configuration of its own.

    The given model stays as it is. Weights are shared with it if they need no conversion, so they must not be changed.
    """
    if model.dtype != dtype or model.device != device:
        return as_dtype(copy.deepcopy(model), dtype).to(device).eval()
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo).eval()


def with_own_config(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with the weights of a given one, whose configuration may be changed."""
    return converted(model, model.dtype, model.device)


def unfused_tensors(model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Return the tensors of a model, unfused."""
    return split_fused(declaration(model), {name: values.detach() for name, values in model.state_dict().items()})


def with_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a copy of the model with other weights, given unfused. Tensors are computed one at a time.

    Raises:
        SpecError: a tensor is missing or has another shape.
    """
    twin = copy.deepcopy(model)
    stored = join_fused(checked_declaration(model), tensors)
    for name, parameter in twin.state_dict().items():
        parameter.copy_(stored[name].detach())
    return twin.eval()


def sharing_tensors(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], materialize: Materialize = as_needed
) -> PreTrainedModel:
    """Return a model whose parameters share memory with these tensors, given unfused. It must not be changed.

    Args:
        materialize: the policy for tensors that have to be joined.

    Raises:
        SpecError: a tensor is missing or has another shape.
    """
    stored = materialize(join_fused(checked_declaration(model), tensors))
    memo: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters():
        memo[id(parameter)] = nn.Parameter(stored[name].detach().to(parameter), requires_grad=False)
    memo |= {id(buffer): stored[name].to(buffer) for name, buffer in model.named_buffers() if name in stored}
    return copy.deepcopy(model, memo).eval()


def without_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model whose parameters have shapes but no values."""
    memo = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, memo)


def as_allocated(tensors: Mapping[str, Tensor]) -> Lazy:
    """Return the same tensors, each contiguous and at an address that torch would choose.

    The last bits of a product depend on both, so models whose weights are mapped then compute what their copies do.
    """

    def read(name: str) -> Tensor:
        values = tensors[name].contiguous()
        return values.clone() if values.data_ptr() % ALIGNMENT else values

    return Lazy({name: partial(read, name) for name in tensors})


def on_demand(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a model whose modules compute their weights, given unfused, when they run, and drop them afterward.

    Only the weights of one module are in memory at a time, so that a model larger than memory can run a few batches.
    """
    with init_empty_weights(include_buffers=False):
        twin = type(model)(copy.deepcopy(model.config)).to(compute_dtype(model.dtype)).eval()
    stored = join_fused(declaration(model), tensors)
    smallest, _ = min(twin.named_parameters(), key=lambda parameter: parameter[1].numel())
    device = stored[smallest].device
    attach_align_device_hook(twin, execution_device=device, offload=True, weights_map=stored)
    buffers = [name for name, _ in twin.named_buffers() if name in stored]
    for name in (*_read_from_outside(declaration(model)), *buffers):
        set_module_tensor_to_device(twin, name, device, value=stored[name])
    return twin


def _read_from_outside(spec: Spec) -> list[str]:
    """Return the weights of modules that never run, because another module reads them, such as tables of distances."""
    tables = [op.name for op in spec.ops if isinstance(op, Table) and op.name.endswith(".weight")]
    return [*tables, *(name for op in spec.linears() if not op.observable for name in op.tensors())]


def with_tied(model: PreTrainedModel, names: Collection[str]) -> set[str]:
    """Return these names of unfused tensors, and the names of all tensors that are tied to them."""
    owners = tied_to(model)
    chosen = {owners[name] for name in names}
    return {name for name, owner in owners.items() if owner in chosen}


def tied_to(model: PreTrainedModel) -> dict[str, str]:
    """Return, for every unfused tensor, the name of the first tensor that it is tied to, or its own."""
    stored = stored_names(declaration(model))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first: dict[object, tuple[str, str]] = {}
    owners: dict[str, str] = {}
    for name, location in stored.items():
        key = id(parameters[location]) if location in parameters else location
        first_location, first_name = first.setdefault(key, (location, name))
        owners[name] = name if location == first_location else first_name
    return owners
