"""How much each token of each layer matters to what a model says: the class token more than a patch of sky."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples
from transfuse.base.budget import fitting_parts
from transfuse.errors import NOTHING_SAID, DataError
from transfuse.network.model import has_scores, logits
from transfuse.network.spec import Linear

MAX_SAMPLES = 500  # calibration samples it is measured on, at most
IMPORTANCE_FLOOR = 0.05  # of the mean, added to all: what did not matter to these samples still counts a little

PositionWeights = Float[Tensor, " position"]  # mean one


def token_importance(
    models: Sequence[PreTrainedModel], linears: Sequence[Linear], batches: Sequence[Batch], seed: int = 0
) -> dict[str, PositionWeights]:
    """By linear map, the mean squared gradient of the log-likelihood with respect to what it writes at each position.

    The Fisher information's trace: classes are drawn from the model's own prediction, no label is looked at. Of models
    without a head, nothing.

    Raises:
        DataError: nothing is asked: of language, no text has a word to be guessed.
    """
    judged = list(first_samples(batches, MAX_SAMPLES))
    if not has_scores(models[0]):
        return {}
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for model in models:
        for _, piece in (each for batch in judged for each in fitting_parts([model], batch, gradients=True)):
            for name, (found, count) in _gradients(model, linears, piece, generator).items():
                sums[name] = _added(sums.get(name), found)
                counts[name] = _added(counts.get(name), count)
    if not sums:
        raise DataError(NOTHING_SAID)
    means = {name: sums[name] / counts[name].clamp_min(1) for name in sums}
    return {name: _levelled(values) for name, values in means.items() if values.mean() > 0}


def _levelled(values: Float[Tensor, " position"]) -> PositionWeights:
    return (values / values.mean() + IMPORTANCE_FLOOR) / (1 + IMPORTANCE_FLOOR)


def _added(old: Tensor | None, new: Tensor) -> Tensor:
    """The sum of two vectors, the shorter one filled up with zeros."""
    if old is None:
        return new
    longer, shorter = (old, new) if len(old) >= len(new) else (new, old)
    return torch.cat([longer[: len(shorter)] + shorter, longer[len(shorter) :]])


def _gradients(
    model: PreTrainedModel, linears: Sequence[Linear], batch: Batch, generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """By linear map, squared gradients summed over samples and units, and how many samples had that position."""
    seen: dict[str, Tensor] = {}
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    head = model.get_output_embeddings()  # every token that is asked for counts the same there
    modules = {linear.name: model.get_submodule(linear.name) for linear in linears}
    handles = [
        module.register_forward_hook(_keep(seen, name)) for name, module in modules.items() if module is not head
    ]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            found = logits(model, batch, head)
            if not len(found):
                return {}
            drawn = torch.multinomial(found.detach().softmax(-1).cpu(), 1, generator=generator).squeeze(1)
            cross_entropy(found, drawn.to(found.device), reduction="sum").backward()
    finally:
        for handle in handles:
            handle.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)
    count, mask = batch_size(batch), batch.get("attention_mask")
    summed = {}
    for name, values in seen.items():
        if values.grad is None:
            continue
        square = values.grad.double().square().reshape(count, -1, values.shape[-1]).sum((0, 2))
        there = (
            mask.sum(0).double()
            if mask is not None and mask.shape[1] == len(square)
            else square.new_full(square.shape, count)
        )
        summed[name] = (square, there)
    return summed


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], Any]:
    """A hook that keeps what a module puts out, with its gradient to come."""

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        values = output[0] if isinstance(output, tuple) else output  # a router also says whom it chose
        values = values if values.requires_grad else values.detach().requires_grad_()
        values.retain_grad()
        seen[name] = values
        return (values, *output[1:]) if isinstance(output, tuple) else values

    return hook
