"""A check of a model's declaration: if it is correct, moving every space by its group leaves the outputs unchanged."""

import copy

import torch
from transformers import PreTrainedModel

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import Maps, transform_all
from transfuse.base.batch import cast
from transfuse.checkpoint.reading.load import with_eager_experts
from transfuse.errors import ConfigError, SpecError
from transfuse.network.families.undeclared import take_undeclared
from transfuse.network.inputs import model_inputs
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import declaration, with_tensors
from transfuse.network.outputs import OUTPUT_NAMES, model_output
from transfuse.network.symmetry import fold, symmetric

TOLERANCE = 1e-4  # relative to the largest output: some models compute their norms in float32 whatever their dtype
NOISE = 0.1


@torch.no_grad()
def check_declaration(model: PreTrainedModel, seed: int = 0) -> float:
    """Move every space of a model by a random element of its group, and compare the outputs.

    If moving all spaces together changes the outputs, each is moved alone to find out which is declared wrongly. Noise
    is added to the weights first, so that no gain is one and no bias is zero by chance.

    Args:
        model: the model, which is left unchanged.
        seed: seed of the noise, of the group elements and of the inputs.

    Returns:
        The largest change of an output, relative to the largest output. It is 0.0 for a model without a head: its
        outputs are in the basis of the residual stream, so only shapes can be checked.

    Raises:
        ConfigError: `model` is not a loaded model.
        SpecError: a tensor is missing, undeclared or of another shape, or a space's group changes the outputs.
    """
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(
            f"model: {model!r:.80} is not a loaded model; give AutoModel.from_pretrained(path) or the like"
        )
    take_undeclared(type(model).__name__, False)
    declared = declaration(model)
    declared.validate({name: tuple(values.shape) for name, values in model.state_dict().items()})
    model = perturbed(model, seed)
    spec = symmetric(unfused(declared))
    tensors = fold(spec, split_fused(declared, model.state_dict()))
    inputs = cast(model_inputs(model, seed), torch.float64)
    reference = model_output(model, inputs)
    if OUTPUT_NAMES[-1][0] in model(**inputs):
        return 0.0
    maps = random_alignment(spec, seed)

    def change(moved: Maps) -> float:
        output = model_output(with_tensors(model, transform_all(spec, tensors, moved)), inputs)
        return float((output - reference).abs().max() / reference.abs().max())

    joint_change = change(maps)
    if joint_change <= TOLERANCE:
        return joint_change
    changes = ((name, change({name: maps[name]})) for name in maps)
    name, largest = next((pair for pair in changes if not pair[1] <= TOLERANCE), (None, joint_change))
    moved = f"space {name} ({spec.spaces()[name].group})" if name else "all spaces together"
    raise SpecError(
        f"{declared.family}: moving {moved} changes the outputs of {type(model).__name__} by {largest:.1e} of the"
        " largest; correct the declaration of the tensors that read or write it, or declare a smaller group"
    )


def perturbed(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a copy of a model in float64 with noise on every parameter."""
    noisy = with_eager_experts(copy.deepcopy(model).double().eval())
    generator = torch.Generator().manual_seed(seed)
    for parameter in noisy.parameters():
        parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return noisy
