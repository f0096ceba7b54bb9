"""Whether an alignment kept each model's function: its outputs before and after, and where they begin to differ.

A model whose declaration is not true, or whose settings differ from the anchor's where nobody looked, comes out of an
alignment as another function. That is refused here, whatever the cause.
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
from transfuse.base.batch import Batch, cast, without_labels
from transfuse.errors import CheckpointError, SpecError
from transfuse.network.model import ANSWERS, SCORES, Network, example_inputs
from transfuse.network.spec import Norm, Spec

LIMITS = {torch.float64: 1e-2, torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 5e-2}  # by the stored dtype
LEAST = 2e-3  # of the largest output, that outputs are taken to vary by: of two inputs, they may be nearly alike
STATES = 0.03  # that a cosine between hidden states may change: outputs may hide what becomes of them
ROUNDING = 1e-2  # of what an output may change by, that it may where hidden states change too
FLAT = 1e-3  # of a row's size: what deviates from its mean by less is rounding
ROWS = 256  # of tokens, that are compared with each other, at most
DRAWS = 3  # batches that have to deviate before a model is refused: rounding can turn the choice of an expert over


@dataclass(frozen=True)
class Deviation:
    """The largest difference of an output, relative to how far outputs vary; the largest difference of a cosine between
    two hidden states; and where the difference begins.
    """

    largest: float
    states: float
    begins: str


@torch.no_grad()
def logit_deviation(spec: Spec, source: PreTrainedModel, carried: PreTrainedModel, batch: Batch) -> Deviation | None:
    """Compare two models that should compute the same, up to the basis of the residual stream.

    Args:
        spec: the source's declaration.
        carried: the source in the anchor's basis and architecture.
        batch: what both are asked.

    Returns:
        None where nothing is asked.

    Raises:
        CheckpointError: one of them gives NaN or infinity.
    """
    (before, states), (after, others) = (_outputs(model, spec.norms(), batch) for model in (source, carried))
    if not sum(each.numel() for each in before):
        return None
    if not all(each.isfinite().all() for each in (*before, *after)):
        raise CheckpointError(
            "a model answers with NaN or infinity: its weights are out of range; no fusion can be used"
        )
    largest = max(_changed(*pair) for pair in zip(before, after, strict=True))
    moved = [_off(*pair) for pair in zip(states, others, strict=True)]
    apart = [index for index, each in enumerate(moved) if each > min(LIMITS.values())]
    return Deviation(
        largest,
        max(moved, default=0.0),
        _between([norm.name for norm in spec.norms()], apart[0] if apart else len(states)),
    )


def check_functions(
    networks: Sequence[Network], alignments: Sequence[Alignment], rows: Sequence[Tensor | None] = ()
) -> list[Alignment]:
    """Return the alignments, each with how far its source's outputs changed, once none changed by more than rounding.

    Args:
        networks: the anchor and one model per alignment.
        rows: where a model has the anchor's words; with other words it answers otherwise, and is not asked.
    """
    anchor, *sources = networks
    _certify(anchor, anchor.holding(alignments[0].anchor))
    return [
        found if row is not None else replace(found, deviation=_certify(source, anchor.holding(found.carried)))
        for found, source, row in zip_longest(alignments, sources, rows)
    ]


def _certify(network: Network, carried: PreTrainedModel) -> float | None:
    """How far a carried model's outputs are from the model's, relative to how far they vary, on random inputs.

    Raises:
        SpecError: by more than the precision explains, on each of three batches.
    """
    limit = LIMITS[network.stored]
    source = network.holding(network.tensors) if network.streamed else network.model
    seen: list[Deviation] = []
    for draw in range(DRAWS):
        found = logit_deviation(network.spec, source, carried, example_inputs(source.config, draw))
        if found is None:
            return None
        if found.largest <= (limit if found.states <= STATES else limit * ROUNDING):
            return found.largest
        seen.append(found)
    least = min(seen, key=lambda each: each.largest)
    kind = str(network.stored).removeprefix("torch.")
    raise SpecError(
        f"{network.name}: after alignment it computes something else: its outputs are off by {least.largest:.2g} of"
        f" their range (at most {limit:g} in {kind}), and the difference begins {least.begins}; compare its config.json"
        " with the anchor's, and run `transfuse doctor` on it"
    )


def _between(norms: Sequence[str], first: int) -> str:
    """The stretch of the forward pass before the first norm whose input differs."""
    if not norms:
        return "before the output"
    if first == 0:
        return f"before {norms[0]}"
    return f"between {norms[first - 1]} and {norms[first]}" if first < len(norms) else f"behind {norms[-1]}"


def _outputs(model: PreTrainedModel, norms: Sequence[Norm], batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """What a model answers, and what it hands to every norm: both without the basis that it is written in."""
    states: dict[str, list[Tensor]] = {norm.name: [] for norm in norms}
    with ExitStack() as hooks:
        for norm in norms:

            def keep(module: nn.Module, inputs: tuple[Tensor, ...], norm: Norm = norm) -> None:
                states[norm.name].append(_gram(inputs[0], norm.centres))

            handle = model.get_submodule(norm.name).register_forward_pre_hook(keep)
            hooks.callback(handle.remove)
        inputs = cast(without_labels(batch), model.dtype)
        if model.device.type != "meta":  # weights that are made as they are needed take the inputs to their device
            inputs = {name: values.to(model.device) for name, values in inputs.items()}
        found = model(**inputs)
    names = next(names for names in ANSWERS if names[0] in found)
    shown = [found[name] for name in names if found.get(name) is not None]
    answers = shown if names[0] in SCORES else [_gram(values, False) for values in shown]
    return [each.flatten(0, -2).float().cpu() for each in answers], [
        torch.cat([each.flatten() for each in states[norm.name]] or [torch.zeros(1)]) for norm in norms
    ]


def _gram(values: Float[Tensor, "*row unit"], centres: bool) -> Float[Tensor, "row row"]:
    """The cosines between rows, which no rotation, permutation or sign of the units changes."""
    rows = values.detach().flatten(0, -2).float()[:ROWS]
    sizes = rows.norm(dim=-1, keepdim=True)
    rows = rows - rows.mean(-1, keepdim=True) if centres else rows
    left = rows.norm(dim=-1, keepdim=True)
    rows = torch.where(left > FLAT * sizes, rows / left.clamp_min(1e-12), torch.zeros_like(rows))
    return (rows @ rows.T).cpu()


def _changed(before: Float[Tensor, "row cls"], after: Float[Tensor, "row cls"]) -> float:
    """The largest difference, relative to how far outputs vary: a class that is out of reach of all inputs, and whose
    score is large therefore, must not hide what happens to the others.
    """
    varies = (before - before.mean(0)).abs().max()
    return float((after - before).abs().max() / torch.maximum(varies, LEAST * before.abs().max()).clamp_min(1e-12))


def _off(before: Tensor, after: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((after - before).abs().max() / before.abs().max().clamp_min(1e-12))
