"""Check that a model can be fused, for `transfuse doctor`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from transfuse.base.budget import available_bytes
from transfuse.base.progress import Progress
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.load import load_empty
from transfuse.cli.jobs.inspection import fusible, inspect
from transfuse.config.options import Options
from transfuse.data.samples import load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import model_processor
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.inputs import load
from transfuse.fusion.plan import START, Estimate, Kind, Model, by_kind, header
from transfuse.verification.declaration import check_declaration
from transfuse.verification.self_fusion import Recovery, recover


@dataclass(frozen=True)
class Examination:
    """Hold the result of checking a model.

    Attributes:
        declaration: the largest change of an output when everything declared moves; None: the check failed, `fault`
            says why.
        recovery: None if the declaration is false.
    """

    model: Model
    dtype: str
    spaces: Mapping[Kind, Sequence[str]]
    declaration: float | None
    fault: str | None
    recovery: Recovery | None

    @property
    def problems(self) -> list[str]:
        """List what is wrong, in one line each."""
        found = [self.fault, self.recovery and self.recovery.problem]
        return [each for each in found if each]

    def shares(self, found: Mapping[str, float]) -> list[float]:
        """Return the mean share of units in their place, for every kind of space."""
        return [fmean(found[name] for name in names) for names in self.spaces.values()]

    def as_dict(self) -> dict[str, object]:
        """Return everything, with shares by kind of space."""
        kinds = [asdict(kind) for kind in self.spaces]
        recovery = None
        if self.recovery is not None:
            recovery = asdict(self.recovery)
            before, after = (self.shares(recovery.pop(name)) for name in ("before", "after"))
            kinds = [
                kind | {"in_place_before": first, "in_place_after": last}
                for kind, first, last in zip(kinds, before, after, strict=True)
            ]
        return {
            "model": asdict(self.model) | {"dtype": self.dtype},
            "spaces": kinds,
            "declaration": self.declaration,
            "recovery": recovery,
            "problems": self.problems,
        }


def doctor_job(name: str, data: str | None, options: Options, progress: Progress) -> Examination:
    """Check a checkpoint's declaration, and whether fusing it with a symmetric copy of itself recovers it.

    Raises:
        TransfuseError: the checkpoint, the data or an option is invalid, or memory does not suffice.
    """
    options.torch_device()
    inspect([name], options, fusible)
    samples = None if data is None else load_samples(data, CALIBRATION)
    empty = load_empty(name, pickle=options.pickle_policy())
    dtype = str(empty.dtype).removeprefix("torch.")
    names: dict[Kind, list[str]] = {}
    try:
        cost = Estimate([empty, empty], options)
        names = {kind: [space.name for space in alike] for kind, alike in by_kind(cost.matched).items()}
        _check_memory(name, cost)
        model = load(name, options)
        declaration = check_declaration(model, options.seed)
    except SpecError as error:
        return Examination(header(name, empty), dtype, names, None, str(error), None)
    processor = None if data is None else model_processor(name, model)
    recovery = recover(model, options, samples, processor, progress)
    return Examination(header(name, empty), dtype, names, declaration, None, recovery)


def _check_memory(name: str, cost: Estimate) -> None:
    """Raise `ConfigError` if memory does not suffice."""
    free = available_bytes()
    if cost.loaded - START > free:
        raise ConfigError(
            f"{name}: this takes about {format_bytes(cost.loaded)} of memory, and {format_bytes(free)} are free; take a"
            " smaller model of its kind, or a larger machine"
        )
