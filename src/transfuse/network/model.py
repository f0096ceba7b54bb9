"""Between transformers' models and networks of named tensors."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.network.families import declare
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class Network:
    """A loaded model, its declaration, and its tensors in the precision of the computation."""

    model: PreTrainedModel
    spec: Spec
    tensors: Mapping[str, Tensor]


def network(model: PreTrainedModel, device: torch.device) -> Network:
    """A model ready for alignment: declared, checked, its tensors in float32 or better.

    Raises:
        SpecError: no declaration for its class, or tensors that do not fit it.
    """
    dtype = model.dtype if model.dtype in (torch.float32, torch.float64) else torch.float32
    as_it_is = model.dtype == dtype and model.device == device and not model.training
    precise = model if as_it_is else copy.deepcopy(model).to(device, dtype).eval()
    spec = declare(model.config, type(model).__name__)
    tensors = {name: values.detach() for name, values in precise.state_dict().items()}
    spec.validate({name: values.shape for name, values in tensors.items()})
    return Network(precise, spec, tensors)


def with_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """A copy of the model that holds other weights."""
    twin = copy.deepcopy(model)
    twin.load_state_dict(tensors, strict=True)
    return twin.eval()


def example_inputs(config: PretrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """A small random batch that a vision model accepts, [2, channel, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return {"pixel_values": torch.randn(2, config.num_channels, height, width, generator=generator)}
