"""Check that a model can be fused, for `transfuse doctor`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from transfuse.base.budget import available_bytes
from transfuse.base.progress import Progress
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.reading.load import load_empty
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible
from transfuse.config.options import Options
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import open_samples
from transfuse.data.processors import model_processor
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.models.compatible import load
from transfuse.fusion.planning.plan import STARTUP_BYTES, Estimate, ModelHeader, SpaceKind, model_header, spaces_by_kind
from transfuse.verification.declaration import check_declaration
from transfuse.verification.self_fusion import Recovery, recover


@dataclass(frozen=True)
class Examination:
    """Hold the result of checking a model.

    Attributes:
        spaces: the names of the spaces, by kind.
        declaration: the largest relative change of an output when all declared symmetries act at random; None: the
            declaration is wrong.
        fault: why the declaration is wrong, or None.
        recovery: the fusion with a symmetric copy of the model; None if the declaration is wrong.
    """

    model: ModelHeader
    dtype: str
    spaces: Mapping[SpaceKind, Sequence[str]]
    declaration: float | None
    fault: str | None
    recovery: Recovery | None

    @property
    def problems(self) -> list[str]:
        """Return one line for each problem."""
        return [problem for problem in (self.fault, self.recovery and self.recovery.problem) if problem]

    def shares(self, share_of: Mapping[str, float]) -> list[float]:
        """Return the mean share of units in their original position for every kind of space.

        Args:
            share_of: the share by the name of the space.
        """
        return [fmean(share_of[name] for name in names) for names in self.spaces.values()]

    def as_dict(self) -> dict[str, object]:
        """Return all results, with shares by kind of space."""
        kinds = [asdict(kind) for kind in self.spaces]
        recovery = None
        if self.recovery is not None:
            recovery = asdict(self.recovery)
            shares_before = self.shares(recovery.pop("before"))
            shares_after = self.shares(recovery.pop("after"))
            kinds = [
                kind | {"in_place_before": before, "in_place_after": after}
                for kind, before, after in zip(kinds, shares_before, shares_after, strict=True)
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
    check_checkpoints([name], options, check_fusible)
    samples = None if data is None else open_samples(data, options, CALIBRATION)
    empty = load_empty(name, pickle=options.pickle_policy())
    dtype = str(empty.dtype).removeprefix("torch.")
    names: dict[SpaceKind, list[str]] = {}
    try:
        estimate = Estimate([empty, empty], options)
        by_kind = spaces_by_kind(estimate.matched_spaces)
        names = {kind: [space.name for space in spaces] for kind, spaces in by_kind.items()}
        _check_memory(name, estimate)
        model = load(name, options)
        declaration = check_declaration(model, options.seed)
    except SpecError as error:
        return Examination(model_header(name, empty), dtype, names, None, str(error), None)
    processor = None if data is None else model_processor(name, model)
    recovery = recover(model, options, samples, processor, progress)
    return Examination(model_header(name, empty), dtype, names, declaration, None, recovery)


def _check_memory(name: str, estimate: Estimate) -> None:
    """Raise `ConfigError` if memory does not suffice for the fusion."""
    free = available_bytes()
    if estimate.loaded_bytes - STARTUP_BYTES > free:
        raise ConfigError(
            f"{name}: the check takes about {format_bytes(estimate.loaded_bytes)} of memory, but only"
            f" {format_bytes(free)} are free; check a smaller model of the same architecture, or use a larger machine"
        )
