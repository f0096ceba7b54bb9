"""A check that an alignment left each model's function unchanged.

Alignment changes the function of a model whose declaration is wrong, or whose settings differ from the anchor's in a
way that no other check covers. Whatever the cause, such an alignment is refused here.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.base.batch import Batch, cast, on_device, without_labels
from transfuse.errors import CheckpointError, SpecError
from transfuse.network.inputs import model_inputs
from transfuse.network.model import Network, has_declaration
from transfuse.network.operations import Norm
from transfuse.network.outputs import LOGIT_NAMES, OUTPUT_NAMES
from transfuse.network.spec import Spec

LIMITS = {torch.float64: 1e-2, torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 5e-2}  # by stored dtype
MIN_RANGE = 2e-3  # share of the largest output that outputs vary by at least: two inputs may have similar outputs
STATE_LIMIT = 0.03  # change of a cosine between hidden states that is still rounding: outputs can hide such changes
STRICT = 1e-2  # factor on the limit of the outputs where hidden states changed by more
MIN_NORM = 1e-3  # a row whose distance from its mean is a smaller share of its norm is only rounding error
MAX_ROWS = 256  # tokens that are compared with each other
DRAWS = 3  # batches that must all fail: rounding can change the choice of an expert


@dataclass(frozen=True)
class Deviation:
    """The change of a model's function.

    Attributes:
        largest: largest change of an output, relative to the range of the outputs.
        states: largest change of a cosine between two hidden states.
        begins: the part of the forward pass in which the change begins.
    """

    largest: float
    states: float
    begins: str


@torch.no_grad()
def logit_deviation(spec: Spec, source: PreTrainedModel, carried: PreTrainedModel, batch: Batch) -> Deviation | None:
    """Compare two models that should compute the same function, up to the basis of the residual stream.

    Args:
        spec: the source's declaration.
        source: the original model.
        carried: the source in the anchor's basis and architecture.
        batch: inputs for both.

    Returns:
        None if the batch has no position to predict.

    Raises:
        CheckpointError: an output is NaN or infinite.
    """
    before, states = _outputs(source, spec.norms(), batch)
    after, carried_states = _outputs(carried, spec.norms(), batch)
    if not sum(output.numel() for output in before):
        return None
    if not all(output.isfinite().all() for output in (*before, *after)):
        raise CheckpointError(
            "a model's outputs are NaN or infinite: its weights are out of range, so it cannot be fused"
        )
    changes = [_relative_change(*pair) for pair in zip(states, carried_states, strict=True)]
    changed = [index for index, change in enumerate(changes) if change > min(LIMITS.values())]
    return Deviation(
        max(_output_change(*pair) for pair in zip(before, after, strict=True)),
        max(changes, default=0.0),
        _location([norm.name for norm in spec.norms()], changed[0] if changed else len(states)),
    )


def check_functions(
    networks: Sequence[Network], alignments: Sequence[Alignment], rows: Sequence[Tensor | None] = ()
) -> list[Alignment]:
    """Check that every aligned model kept its function, and return the alignments with their deviations.

    Args:
        networks: the anchor and one model per alignment.
        alignments: one per model after the anchor.
        rows: the rows of the anchor's tokens in each model's vocabulary. A model with another vocabulary has other
            outputs after alignment, and is not checked.

    Raises:
        SpecError: a model changed by more than rounding error.
        CheckpointError: an output is NaN or infinite.
    """
    anchor, *sources = networks
    _check_function(anchor, anchor.with_weights(alignments[0].anchor))
    return [
        alignment
        if row is not None
        else replace(alignment, output_deviation=_check_function(source, anchor.with_weights(alignment.carried)))
        for alignment, source, row in zip_longest(alignments, sources, rows)
    ]


def _check_function(network: Network, carried: PreTrainedModel) -> float | None:
    """Return the change of a model's outputs on random inputs, relative to their range; None if there are none.

    Models without a declaration are not checked: they are not aligned, and which inputs they take is not known.

    Raises:
        SpecError: on each of several batches, the change exceeds the limit of the precision.
    """
    if not has_declaration(network.model):
        return None
    limit = LIMITS[network.stored_dtype]
    source = network.with_weights(network.tensors) if network.streamed else network.model
    deviations: list[Deviation] = []
    for draw in range(DRAWS):
        deviation = logit_deviation(network.spec, source, carried, model_inputs(source, draw))
        if deviation is None:
            return None
        if deviation.largest <= (limit if deviation.states <= STATE_LIMIT else limit * STRICT):
            return deviation.largest
        deviations.append(deviation)
    smallest = min(deviations, key=lambda deviation: deviation.largest)
    dtype = str(network.stored_dtype).removeprefix("torch.")
    raise SpecError(
        f"{network.name}: its function changed in alignment: outputs are off by {smallest.largest:.2g} of their range"
        f" (at most {limit:g} in {dtype}), starting {smallest.begins}; compare its config.json with the others', and"
        " run `transfuse doctor` on it"
    )


def _location(norms: Sequence[str], first: int) -> str:
    """Name the part of the forward pass that ends at the first norm whose input changed."""
    if not norms:
        return "before the output"
    if first == 0:
        return f"before {norms[0]}"
    return f"between {norms[first - 1]} and {norms[first]}" if first < len(norms) else f"after {norms[-1]}"


def _outputs(model: PreTrainedModel, norms: Sequence[Norm], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """Return a model's outputs and the inputs of its norms, both independent of the basis of the residual stream."""
    states: dict[str, list[Tensor]] = {norm.name: [] for norm in norms}
    with ExitStack() as hooks:
        for norm in norms:

            def record(module: nn.Module, inputs: tuple[Tensor, ...], norm: Norm = norm) -> None:
                states[norm.name].append(_cosines(inputs[0], norm.centers))

            hooks.enter_context(model.get_submodule(norm.name).register_forward_pre_hook(record))
        inputs = cast(without_labels(batch), model.dtype)
        if model.device.type != "meta":  # weights that are computed on demand move the inputs to their device
            inputs = on_device(inputs, model.device)
        output = model(**inputs)
    names = next(names for names in OUTPUT_NAMES if names[0] in output)
    values = [output[name] for name in names if output.get(name) is not None]
    answers = values if names[0] in LOGIT_NAMES else [_cosines(hidden, False) for hidden in values]
    return [answer.flatten(0, -2).float().cpu() for answer in answers], [
        torch.cat([cosines.flatten() for cosines in states[norm.name]] or [torch.zeros(1)]) for norm in norms
    ]


def _cosines(values: Float[Tensor, "*row unit"], center: bool) -> Float[Tensor, "row row"]:
    """Return the cosines between rows, which do not depend on rotations, permutations or signs of the units."""
    rows = values.detach().flatten(0, -2).float()[:MAX_ROWS]
    sizes = rows.norm(dim=-1, keepdim=True)
    rows = rows - rows.mean(-1, keepdim=True) if center else rows
    norms = rows.norm(dim=-1, keepdim=True)
    rows = torch.where(norms > MIN_NORM * sizes, rows / norms.clamp_min(1e-12), torch.zeros_like(rows))
    return (rows @ rows.T).cpu()


def _output_change(before: Float[Tensor, "row cls"], after: Float[Tensor, "row cls"]) -> float:
    """Return the largest change, relative to how far outputs vary over the rows.

    A class that no input can reach has a large constant logit, which must not hide changes of the others.
    """
    spread = (before - before.mean(0)).abs().max()
    return float((after - before).abs().max() / torch.maximum(spread, MIN_RANGE * before.abs().max()).clamp_min(1e-12))


def _relative_change(before: Tensor, after: Tensor) -> float:
    """Return the largest change, relative to the largest value."""
    return float((after - before).abs().max() / before.abs().max().clamp_min(1e-12))
