"""The importance of each token position, layer by layer: the trace of the Fisher information of the layer's output.

Predictions depend on some positions more than on others, for example on the class token more than on a patch of sky.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples, token_mask
from transfuse.base.budget import fitting_parts
from transfuse.errors import NO_TARGETS, DataError
from transfuse.network.model import declaration
from transfuse.network.operations import Linear
from transfuse.network.output_losses import output_loss
from transfuse.network.outputs import has_logits, logits
from transfuse.network.precision import mixed_precision

MAX_SAMPLES = 100  # largest number of calibration samples that are used
IMPORTANCE_FLOOR = 0.05  # added to all positions, relative to the mean, so that no position is ignored

PositionWeights = Float[Tensor, " position"]  # mean one


def token_importance(
    models: Sequence[PreTrainedModel], linears: Sequence[Linear], batches: Sequence[Batch]
) -> dict[str, PositionWeights]:
    """Return the mean squared gradient of the log-likelihood with respect to each position of a layer's output.

    This is the trace of the Fisher information: classes are drawn from the model's own predictions, and labels are not
    used.

    Args:
        models: models over which the mean is taken.
        linears: layers whose outputs are differentiated.

    Returns:
        Weights with mean one by the name of the layer. Layers that only read rows that all samples share have none.
        Empty if the models have no prediction head.

    Raises:
        DataError: no text has a token to predict.
    """
    samples = list(first_samples(batches, MAX_SAMPLES))
    if not has_logits(models[0]):
        return {}
    shared = declaration(models[0]).table_readers()
    linears = [linear for linear in linears if linear.name not in shared]
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for model in models:
        for batch in samples:
            for _, part in fitting_parts([model], batch, gradients=True):
                for name, (squares, count) in _squared_gradients(model, linears, part, generator).items():
                    sums[name] = _padded_sum(sums.get(name), squares)
                    counts[name] = _padded_sum(counts.get(name), count)
    if not sums:
        raise DataError(NO_TARGETS)
    means = {name: sums[name] / counts[name].clamp_min(1) for name in sums}
    return {name: _normalize(values) for name, values in means.items() if values.mean() > 0}


def weights_at(positions: Int[Tensor, " row"], weights: PositionWeights) -> Float[Tensor, " row"]:
    """Return the weight of every row's position, and 1 for positions beyond those measured."""
    measured = positions < len(weights)
    return torch.where(measured, weights.to(positions.device)[positions.clamp_max(len(weights) - 1)], 1.0)


def _normalize(values: Float[Tensor, " position"]) -> PositionWeights:
    return (values / values.mean() + IMPORTANCE_FLOOR) / (1 + IMPORTANCE_FLOOR)


def _padded_sum(total: Tensor | None, new: Tensor) -> Tensor:
    """Return the sum of two vectors. The shorter one is padded with zeros."""
    if total is None:
        return new
    longer, shorter = (total, new) if len(total) >= len(new) else (new, total)
    return torch.cat([longer[: len(shorter)] + shorter, longer[len(shorter) :]])


def _squared_gradients(
    model: PreTrainedModel, linears: Sequence[Linear], batch: Batch, generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return squared gradients [position], summed over samples and units, and the number of samples per position."""
    outputs: dict[str, Tensor] = {}
    head = model.get_output_embeddings()  # excluded, because all predicted tokens have the same weight there
    modules = {linear.name: model.get_submodule(linear.name) for linear in linears}
    with _differentiable_outputs(
        model, {name: module for name, module in modules.items() if module is not head}, outputs
    ):
        with mixed_precision(model.device):
            scores = logits(model, batch, head)
        if not len(scores):
            return {}
        scores.backward(output_loss(model).drawn_gradients(scores.detach(), generator))
    return {
        name: _sum_by_position(values.grad, batch, name) for name, values in outputs.items() if values.grad is not None
    }


def _sum_by_position(gradient: Tensor, batch: Batch, module: str) -> tuple[Tensor, Tensor]:
    """Return the squares summed over samples and units, and the number of samples that have each position."""
    samples = batch_size(batch)
    squares = gradient.double().square().reshape(samples, -1, gradient.shape[-1]).sum((0, 2))
    mask = token_mask(batch, module, (samples, len(squares)))
    if mask is not None:
        return squares, mask.sum(0).double()
    return squares, squares.new_full(squares.shape, samples)


@contextmanager
def _differentiable_outputs(
    model: nn.Module, modules: dict[str, nn.Module], outputs: dict[str, Tensor]
) -> Iterator[None]:
    """Store the outputs of the modules, which will receive gradients, within the context. Parameters receive none."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(_store_output(outputs, name)))
        for parameter in parameters:
            hooks.callback(parameter.requires_grad_, True)
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield


def _store_output(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], Any]:
    """Return a forward hook that stores the first output of a module and retains its gradient.

    A module may run again on rows that all samples share, such as the embeddings of distances in DeBERTa.
    """

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        if name in outputs:
            return None
        values = output[0] if isinstance(output, tuple) else output  # a router also returns the chosen experts
        values = values if values.requires_grad else values.detach().requires_grad_()
        values.retain_grad()
        outputs[name] = values
        passed_on = values.clone()  # some models clip it in place
        return (passed_on, *output[1:]) if isinstance(output, tuple) else passed_on

    return hook
