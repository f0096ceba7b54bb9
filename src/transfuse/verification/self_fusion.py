"""A check that fusion works on a model: fusing it with a symmetric copy of itself must recover it.

A random element of the whole exact group moves every space of the copy, which keeps the function and changes all
weights. An alignment that finds this element recovers the model. The plain average of both does not, and is the
control.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import Batch, cast, on_device, without_labels
from transfuse.base.counted import counted
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.options import Options
from transfuse.data.prepare import prepare
from transfuse.data.samples import Samples
from transfuse.fusion.fuse import fuse
from transfuse.merging.mean import mean
from transfuse.network.axes import leaves
from transfuse.network.inputs import model_inputs
from transfuse.network.model import Network, network, with_tensors
from transfuse.network.outputs import OUTPUT_NAMES, model_output
from transfuse.network.precision import compute_dtype
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, symmetric

TOLERANCE = 1e-3  # relative to the largest output: ten thousand times the rounding error of single precision
CONTROL_FACTOR = 10.0  # the plain average must be off by this many times the tolerance, or the check proves nothing
MAX_SAMPLES = 20  # on which outputs are compared
UNIT_TOLERANCE = 0.1  # relative error of a unit's weights within which it counts as recovered


@dataclass(frozen=True)
class Recovery:
    """How well a model was recovered.

    Differences are those of outputs from the model's own, the largest relative to the largest output.

    Attributes:
        match_on: the evidence that units were matched by.
        merge: the merge method.
        samples: number of calibration samples.
        rounding: relative rounding error of the precision of the computation.
        tolerance: the largest difference that is accepted.
        copy: difference of the symmetric copy; None without a head, because its outputs are in another basis.
        fused: difference of the fused model.
        plain: difference of the plain average, the control.
        before: for each space, the share of units that are in their place in the copy.
        after: the same after alignment.
    """

    match_on: str
    merge: str
    samples: int
    rounding: float
    tolerance: float
    copy: float | None
    fused: float
    plain: float
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def problem(self) -> str | None:
        """A line that says what is wrong; None if the model was recovered."""
        if self.copy is not None and not self.copy <= self.tolerance:
            return (
                f"the symmetric copy's outputs differ from the model's by {self.copy:.1e} of the largest, so the"
                " declaration is wrong"
            )
        if not self.fused <= self.tolerance:
            hint = f", matched by {counted(self.samples, 'sample')}; more may be needed" if self.samples else ""
            return f"the model is not recovered: outputs are off by {self.fused:.1e} of the largest{hint}"
        if not self.plain >= CONTROL_FACTOR * self.tolerance:
            return f"nothing is proved: the outputs of the plain average are off by only {self.plain:.1e}"
        return None


@torch.no_grad()
def recover(
    model: PreTrainedModel,
    options: Options,
    data: Samples | None = None,
    processor: Any = None,
    progress: Progress = silent,
) -> Recovery:
    """Fuse a model with a random symmetric copy of itself, as `transfuse fuse` would, but train only if asked to.

    The copy is stored, and outputs are compared, in the precision in which the library computes: at least single.

    Args:
        model: the model.
        options: options of the fusion; `seed` draws the copy.
        data: calibration samples; None to match by weights.
        processor: prepares the samples; None for the checkpoint's own.
        progress: displays progress.

    Raises:
        TransfuseError: the model cannot be declared, copied or fused.
    """
    original = network(model, options.torch_device())
    spec = symmetric(original.spec)
    copied_model = symmetric_copy(original, spec, options.seed)
    dtype = compute_dtype(model.dtype)
    passed = options.model_dump(exclude_unset=True) | {"dtype": str(dtype).removeprefix("torch.")}
    if options.merge == "auto" and options.merging(data is not None) == "learned":
        passed["merge"] = "least-squares"
    fusion = fuse([model, copied_model], data, progress, processor, **passed)
    (alignment,) = fusion.alignments
    copied = network(copied_model, options.torch_device())
    inputs = cast(_inputs(original, data, options, processor), dtype)
    reference = model_output(original.model, inputs)
    headless = not any(names[0] in original.model(**inputs) for names in OUTPUT_NAMES[:-1])

    def difference(other: PreTrainedModel) -> float:
        output = model_output(other.to(original.model.device), inputs)
        return float((output - reference).abs().max() / reference.abs().max().clamp_min(1e-30))

    return Recovery(
        match_on=fusion.record["match_on"],
        merge=fusion.record["merge"],
        samples=fusion.record["calibration_samples"],
        rounding=torch.finfo(dtype).eps,
        tolerance=TOLERANCE,
        copy=None if headless else difference(copied_model),
        fused=difference(fusion.model),
        plain=difference(with_tensors(original.model, mean([original.tensors, copied.tensors], [0.5, 0.5]))),
        before=in_place(spec, canonicalize(spec, copied.tensors), alignment.anchor),
        after=in_place(spec, alignment.carried, alignment.anchor),
    )


def symmetric_copy(original: Network, spec: Spec, seed: int) -> PreTrainedModel:
    """Return a model of the same function, with every space of its symmetric declaration moved at random."""
    precise = {name: values.double() for name, values in original.tensors.items()}
    return with_tensors(original.model, transform_all(spec, fold(spec, precise), random_alignment(spec, seed)))


def in_place(spec: Spec, carried: Tensors, anchor: Tensors) -> dict[str, float]:
    """Return, for each free space, the share of units whose weights are those of the anchor's unit.

    Both models are in canonical form. Units with equal weights, or with none, are interchangeable.
    """
    errors: dict[str, Tensor] = {}
    energies: dict[str, Tensor] = {}
    for name, axes in spec.tensors().items():
        spaces = [space for axis in axes for space, _ in leaves(axis)]
        shape = [space.units for space in spaces]
        target = anchor[name].double().reshape(shape)
        error = carried[name].double().reshape(shape) - target
        dims = {space.name: dim for dim, space in enumerate(spaces)}
        for dim, space in enumerate(spaces):
            if space.free:
                unit_dims = [*(dims[parent.name] for parent in space.ancestors()), dim]
                for sums, values in ((errors, error), (energies, target)):
                    sums[space.name] = sums.get(space.name, torch.zeros(())) + _energy(values, unit_dims).cpu()
    limit = UNIT_TOLERANCE**2
    return {name: float((errors[name] <= limit * energies[name]).double().mean()) for name in errors}


def _energy(values: Tensor, unit_dims: list[int]) -> Tensor:
    """Return the sums of squares over all other dimensions."""
    squares = values.square().movedim(unit_dims, list(range(len(unit_dims))))
    return squares.flatten(len(unit_dims)).sum(-1) if squares.ndim > len(unit_dims) else squares


def _inputs(original: Network, data: Samples | None, options: Options, processor: Any) -> Batch:
    """Return calibration samples, or without any a random batch, on the model's device."""
    model = original.model
    if data is None:
        inputs: Batch = model_inputs(model, options.seed)
    else:
        selected = data.take(MAX_SAMPLES, options.seed)
        one_batch = options.model_copy(update={"batch_size": MAX_SAMPLES})
        inputs = without_labels(prepare(selected, model, model, one_batch, processor)[0])
    return on_device(inputs, model.device)
