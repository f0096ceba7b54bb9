"""Whether a declaration is true: what it says may be moved is moved, and the model answers as before."""

import copy

import torch
from transformers import PreTrainedModel

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import Maps, transform_all
from transfuse.base.batch import cast
from transfuse.checkpoint.load import with_eager_experts
from transfuse.errors import SpecError
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import ANSWERS, declaration, example_inputs, model_output, with_tensors
from transfuse.network.symmetry import fold, symmetric

TOLERANCE = 1e-4  # of the largest answer: some models compute their norms in float32 whatever their dtype


@torch.no_grad()
def check_declaration(model: PreTrainedModel, seed: int = 0) -> float:
    """Move every space of a model by a random element of its group, all together; if that fails, one after the other.

    Draws the model's weights anew around their values, so that no gain is one and no bias zero by chance.

    Returns:
        The largest deviation of an answer, relative to the largest answer.

    Raises:
        SpecError: a tensor is missing, undeclared or of another shape, or a space's group changes the answers; of a
            model without a head, whose answers are in the stream's own basis, only shapes can be checked.
    """
    declared = declaration(model)
    declared.validate({name: tuple(values.shape) for name, values in model.state_dict().items()})
    model = perturbed(model, seed)
    spec = symmetric(unfused(declared))
    tensors = fold(spec, split_fused(declared, model.state_dict()))
    inputs = cast(example_inputs(model.config, seed), torch.float64)
    reference = model_output(model, inputs)
    if ANSWERS[-1][0] in model(**inputs):
        return 0.0
    maps = random_alignment(spec, seed)

    def change(moving: Maps) -> float:
        found = model_output(with_tensors(model, transform_all(spec, tensors, moving)), inputs)
        return float((found - reference).abs().max() / reference.abs().max())

    together = change(maps)
    if together <= TOLERANCE:
        return together
    alone = ((name, change({name: maps[name]})) for name in maps)
    name, worst = next((each for each in alone if not each[1] <= TOLERANCE), (None, together))
    what = f"space {name} ({spec.spaces()[name].group})" if name else "all spaces together"
    raise SpecError(
        f"{declared.family}: moving {what} changes what {type(model).__name__} answers by {worst:.1e} of the largest; a"
        " tensor that reads or writes it is declared otherwise, or its group is smaller"
    )


def perturbed(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    shaken = with_eager_experts(copy.deepcopy(model).double().eval())
    generator = torch.Generator().manual_seed(seed)
    for parameter in shaken.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return shaken
