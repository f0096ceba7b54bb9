"""The proof that fusing works on a model: fused with a hidden copy of itself, it has to come back.

The copy answers as the model does, and has nothing else in common with it: a random element of the whole exact group
has moved every space. An alignment that finds that element gives the model back; the plain average is noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import Batch, cast, unlabelled
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.options import Options
from transfuse.data.samples import Samples
from transfuse.fusion.fuse import fuse
from transfuse.fusion.match import prepare
from transfuse.merging.mean import mean
from transfuse.network.model import ANSWERS, Network, computed_in, example_inputs, model_output, network, with_tensors
from transfuse.network.space import leaves
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, symmetric

TOLERANCE = 1e-3  # of the largest answer: ten thousand times the rounding of single precision
FAR = 10.0  # times the tolerance, that a plain average has to be off by for the proof to say anything
ASKED = 20  # samples, where there are any
NEAR = 0.1  # relative error of all that a unit writes and reads, within which it is back in its place


@dataclass(frozen=True)
class Recovery:
    """How a model came back.

    Attributes:
        evidence, merge, samples: how it was fused, and by how many samples.
        rounding: relative, of a number in the precision of the computation.
        tolerance: what `fused` may be.
        hidden, fused, plain: largest difference of an answer from the model's, relative to the largest answer, of the
            copy (None without a head: it answers in a basis of its own), of the fused model, and of the plain average,
            the control.
        before, after: of every space, the share of its units in their place, in the copy and once it is aligned.
    """

    evidence: str
    merge: str
    samples: int
    rounding: float
    tolerance: float
    hidden: float | None
    fused: float
    plain: float
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def problem(self) -> str | None:
        """What is wrong, in a line."""
        if self.hidden is not None and not self.hidden <= self.tolerance:
            return f"the hidden copy answers otherwise already (by {self.hidden:.1e}), so the declaration is not true"
        if not self.fused <= self.tolerance:
            few = f", matched by {self.samples} samples; more may be needed" if self.samples else ""
            return f"the model does not come back: answers are off by {self.fused:.1e} of the largest{few}"
        if not self.plain >= FAR * self.tolerance:
            return f"nothing is proved: the plain average, off by {self.plain:.1e}, answers as the model does, too"
        return None


@torch.no_grad()
def recover(
    model: PreTrainedModel,
    options: Options,
    data: Samples | None = None,
    processor: Any = None,
    progress: Progress = silent,
) -> Recovery:
    """Fuse a model with a hidden copy of itself, drawn by `options.seed`, as `transfuse fuse` would.

    The copy is kept, and answers are compared, in the precision in which the library computes: single at least.

    Args:
        data, processor: calibration samples, and what prepares them; None: by weights.

    Raises:
        TransfuseError: it cannot be declared, moved or fused.
    """
    own = network(model, options.torch_device())
    spec = symmetric(own.spec)
    hidden = symmetric_copy(own, spec, options.seed)
    dtype = computed_in(model.dtype)
    chosen = options.model_dump(exclude_unset=True) | {"dtype": str(dtype).removeprefix("torch.")}
    fusion = fuse([model, hidden], data, progress, processor, **chosen)
    (aligned,) = fusion.alignments
    moved = network(hidden, options.torch_device())
    inputs = cast(_asked(own, data, options, processor), dtype)
    due = model_output(own.model, inputs)
    headless = not any(names[0] in own.model(**inputs) for names in ANSWERS[:-1])

    def off(other: PreTrainedModel) -> float:
        found = model_output(other.to(own.model.device), inputs)
        return float((found - due).abs().max() / due.abs().max().clamp_min(1e-30))

    return Recovery(
        fusion.record["evidence"],
        fusion.record["merge"],
        fusion.record["calibration_samples"],
        torch.finfo(dtype).eps,
        TOLERANCE,
        None if headless else off(hidden),
        off(fusion.model),
        off(with_tensors(own.model, mean([own.tensors, moved.tensors], [0.5, 0.5]))),
        in_place(spec, canonicalize(spec, moved.tensors), aligned.anchor),
        in_place(spec, aligned.carried, aligned.anchor),
    )


def symmetric_copy(own: Network, spec: Spec, seed: int) -> PreTrainedModel:
    """A model of the same function, every space of `spec`, its symmetric declaration, moved at random."""
    precise = {name: values.double() for name, values in own.tensors.items()}
    return with_tensors(own.model, transform_all(spec, fold(spec, precise), random_alignment(spec, seed)))


def in_place(spec: Spec, carried: Tensors, anchor: Tensors) -> dict[str, float]:
    """Of every space, the share of units that write and read what the anchor's do, in canonical gauge both.

    Of units that do the same, or nothing, any may stand for another.
    """
    apart: dict[str, torch.Tensor] = {}
    size: dict[str, torch.Tensor] = {}
    for name, axes in spec.tensors().items():
        found = [space for axis in axes for space, _ in leaves(axis)]
        sizes = [space.units for space in found]
        due = anchor[name].double().reshape(sizes)
        difference = carried[name].double().reshape(sizes) - due
        places = {space.name: place for place, space in enumerate(found)}
        for place, space in enumerate(found):
            if space.free:
                kept = [*(places[parent.name] for parent in space.ancestors()), place]
                for sums, values in ((apart, difference), (size, due)):
                    sums[space.name] = sums.get(space.name, torch.zeros(())) + _energy(values, kept).cpu()
    return {name: float((apart[name] <= NEAR**2 * size[name]).double().mean()) for name in apart}


def _energy(values: torch.Tensor, kept: list[int]) -> torch.Tensor:
    """Sums of squares over all other dimensions."""
    squares = values.square().movedim(kept, list(range(len(kept))))
    return squares.flatten(len(kept)).sum(-1) if squares.ndim > len(kept) else squares


def _asked(own: Network, data: Samples | None, options: Options, processor: Any) -> Batch:
    """What the models are asked: samples if there are any, else a random batch."""
    if data is None:
        asked: Batch = example_inputs(own.model.config, options.seed)
    else:
        few = options.model_copy(update={"batch_size": ASKED})
        asked = unlabelled(prepare(data.take(ASKED, options.seed), own.model, own.model, few, processor)[0])
    return {name: values.to(own.model.device) for name, values in asked.items()}
